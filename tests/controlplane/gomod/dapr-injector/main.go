// Command dapr-injector answers admission reviews with the code of Dapr's own sidecar injector.
//
// Only what needs Dapr's control plane is left out: the serving certificate comes from files, and the
// two clients are fakes that hold the one StatefulSet the injector waits for. It is configured by the
// injector's own environment variables (NAMESPACE, SIDECAR_IMAGE, ...) and these:
//
//	INJECTOR_PORT           TCP port, 0 for a free one; Dapr's log line "is listening on" names it
//	INJECTOR_TLS_CERT_FILE  PEM file, also handed out as the trust anchor of the sidecars
//	INJECTOR_TLS_KEY_FILE   PEM file
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"

	daprfake "github.com/dapr/dapr/pkg/client/clientset/versioned/fake"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/injector/service"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dapr-injector:", err)
		os.Exit(1)
	}
}

func run() error {
	port, err := strconv.Atoi(os.Getenv("INJECTOR_PORT"))
	if err != nil {
		return fmt.Errorf("INJECTOR_PORT is not a number: %w", err)
	}
	certFile, keyFile := os.Getenv("INJECTOR_TLS_CERT_FILE"), os.Getenv("INJECTOR_TLS_KEY_FILE")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("cannot load the serving certificate: %w", err)
	}
	anchors, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("cannot read the trust anchors: %w", err)
	}
	config, err := service.GetConfig()
	if err != nil {
		return fmt.Errorf("cannot read Dapr's configuration: %w", err)
	}
	injector, err := service.NewInjector(service.Options{
		Config:                  config,
		DaprClient:              daprfake.NewSimpleClientset(),
		KubeClient:              kubefake.NewClientset(scheduler(config.Namespace)),
		Port:                    port,
		Healthz:                 healthz.New(),
		ControlPlaneNamespace:   config.Namespace,
		ControlPlaneTrustDomain: config.ControlPlaneTrustDomain,
	})
	if err != nil {
		return fmt.Errorf("cannot make the injector: %w", err)
	}
	sentry, err := spiffeid.FromString("spiffe://" + config.ControlPlaneTrustDomain + "/ns/" + config.Namespace + "/dapr-sentry")
	if err != nil {
		return fmt.Errorf("cannot name sentry: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	return injector.Run(ctx, tlsConfig, sentry, func(context.Context) ([]byte, error) { return anchors, nil })
}

// scheduler is the object that the injector waits for before it listens.
func scheduler(namespace string) *appsv1.StatefulSet {
	replicas := int32(1)
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "dapr-scheduler-server", Namespace: namespace},
		Spec:       appsv1.StatefulSetSpec{Replicas: &replicas},
	}
}
