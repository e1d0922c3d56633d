// The webhook as Go projects ship it: controller-runtime's server and decoder, the whole Pod in core/v1 types, and the
// patch made by comparing the Pod before and after (admission.PatchResponseFromRaw).
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	sidecar  = "daprd"
	tokenEnv = "DAPR_API_TOKEN"
)

type injector struct {
	decoder admission.Decoder
}

func isTrue(word string) bool {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "y", "yes", "true", "t", "on", "1":
		return true
	}
	return false
}

// Handle answers one request by the rules of the golden cases.
func (i *injector) Handle(_ context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create || req.Kind.Group != "" || req.Kind.Kind != "Pod" {
		return admission.Allowed("not a new Pod")
	}
	pod := &corev1.Pod{}
	if err := i.decoder.Decode(req, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	name := strings.TrimSpace(pod.Annotations["dapr.io/api-token-secret"])
	if !isTrue(pod.Annotations["dapr.io/enabled"]) || name == "" {
		return admission.Allowed("no token requested")
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return admission.Denied("annotation dapr.io/api-token-secret: " + strings.Join(problems, "; "))
	}
	key := strings.TrimSpace(pod.Annotations["dapr-token-injector/api-token-key"])
	if key == "" {
		key = "token"
	}
	variable := corev1.EnvVar{Name: tokenEnv, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key,
	}}}
	changed := inject(pod.Spec.Containers, variable)
	changed = inject(pod.Spec.InitContainers, variable) || changed
	if !changed {
		return admission.Allowed("nothing to change")
	}
	mutated, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, mutated)
}

func inject(containers []corev1.Container, variable corev1.EnvVar) bool {
	changed := false
	for i := range containers {
		if containers[i].Name != sidecar || has(containers[i].Env, variable.Name) {
			continue
		}
		containers[i].Env = append(containers[i].Env, variable)
		changed = true
	}
	return changed
}

func has(env []corev1.EnvVar, name string) bool {
	for i := range env {
		if env[i].Name == name {
			return true
		}
	}
	return false
}

func main() {
	port := flag.Int("port", 8443, "port to listen on, on loopback")
	certs := flag.String("certs", "", "folder of tls.crt and tls.key")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	server := webhook.NewServer(webhook.Options{
		Host:    "127.0.0.1",
		Port:    *port,
		CertDir: *certs,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }},
	})
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		ctrl.Log.Error(err, "scheme")
		os.Exit(1)
	}
	server.Register("/mutate", &webhook.Admission{Handler: &injector{decoder: admission.NewDecoder(scheme)}})
	if err := server.Start(ctrl.SetupSignalHandler()); err != nil {
		ctrl.Log.Error(err, "serve")
		os.Exit(1)
	}
}
