// A minimal mutating webhook: net/http, encoding/json and typed structs that name only the fields the rules read.
// It logs nothing, counts nothing and limits nothing but the body's size: the least that a Go webhook can cost.
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"regexp"
	"strings"
)

const (
	maxBody  = 8 << 20
	sidecar  = "daprd"
	tokenEnv = "DAPR_API_TOKEN"
)

type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID       string `json:"uid"`
	Operation string `json:"operation"`
	Kind      struct {
		Group string `json:"group"`
		Kind  string `json:"kind"`
	} `json:"kind"`
	Object pod `json:"object"`
}

type response struct {
	UID       string  `json:"uid"`
	Allowed   bool    `json:"allowed"`
	PatchType string  `json:"patchType,omitempty"`
	Patch     []byte  `json:"patch,omitempty"`
	Status    *status `json:"status,omitempty"`
}

type status struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

type pod struct {
	Metadata struct {
		Annotations annotations `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		Containers     []container `json:"containers"`
		InitContainers []container `json:"initContainers"`
	} `json:"spec"`
}

type annotations struct {
	Enabled string `json:"dapr.io/enabled"`
	Secret  string `json:"dapr.io/api-token-secret"`
	Key     string `json:"dapr-token-injector/api-token-key"`
}

type container struct {
	Name string   `json:"name"`
	Env  []envVar `json:"env"`
}

type envVar struct {
	Name      string  `json:"name"`
	Value     string  `json:"value,omitempty"`
	ValueFrom *source `json:"valueFrom,omitempty"`
}

type source struct {
	SecretKeyRef *selector `json:"secretKeyRef,omitempty"`
}

type selector struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

var secretName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func isTrue(word string) bool {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "y", "yes", "true", "t", "on", "1":
		return true
	}
	return false
}

// admit answers one request by the rules of the golden cases.
func admit(req *request) *response {
	answer := &response{UID: req.UID, Allowed: true}
	asked := req.Object.Metadata.Annotations
	name := strings.TrimSpace(asked.Secret)
	if req.Operation != "CREATE" || req.Kind.Group != "" || req.Kind.Kind != "Pod" || !isTrue(asked.Enabled) || name == "" {
		return answer
	}
	if len(name) > 253 || !secretName.MatchString(name) {
		answer.Allowed = false
		answer.Status = &status{Message: "annotation dapr.io/api-token-secret is not a Secret name", Code: 400}
		return answer
	}
	key := strings.TrimSpace(asked.Key)
	if key == "" {
		key = "token"
	}
	variable := envVar{Name: tokenEnv, ValueFrom: &source{SecretKeyRef: &selector{Name: name, Key: key}}}
	ops := patch(nil, "containers", req.Object.Spec.Containers, variable)
	ops = patch(ops, "initContainers", req.Object.Spec.InitContainers, variable)
	if len(ops) == 0 {
		return answer
	}
	answer.Patch, _ = json.Marshal(ops) // plain strings: cannot fail
	answer.PatchType = "JSONPatch"
	return answer
}

func patch(ops []operation, list string, containers []container, variable envVar) []operation {
	for i, c := range containers {
		if c.Name != sidecar || has(c.Env, variable.Name) {
			continue
		}
		path := fmt.Sprintf("/spec/%s/%d/env", list, i)
		if c.Env == nil {
			ops = append(ops, operation{"add", path, []envVar{variable}})
		} else {
			ops = append(ops, operation{"add", path + "/-", variable})
		}
	}
	return ops
}

func has(env []envVar, name string) bool {
	for i := range env {
		if env[i].Name == name {
			return true
		}
	}
	return false
}

func mutate(w http.ResponseWriter, r *http.Request) {
	// Content-Length is known from the API server, so the body is read into one buffer of the right size.
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		http.Error(w, "body too large", http.StatusRequestEntityTooLarge)
		return
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var asked review
	if err := json.Unmarshal(body, &asked); err != nil || asked.Request == nil {
		http.Error(w, "not an AdmissionReview", http.StatusBadRequest)
		return
	}
	answer, err := json.Marshal(review{APIVersion: asked.APIVersion, Kind: asked.Kind, Response: admit(asked.Request)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8443", "address to listen on")
	cert := flag.String("cert", "", "certificate file")
	key := flag.String("key", "", "private key file")
	flag.Parse()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /mutate", mutate)
	server := &http.Server{Addr: *addr, Handler: mux, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13}}
	log.Fatal(server.ListenAndServeTLS(*cert, *key))
}
