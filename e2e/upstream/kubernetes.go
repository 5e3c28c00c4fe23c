package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/pki"
)

// Kubernetes is upstream's server to be started.
type Kubernetes struct {
	APIServer, Etcd string // executables, as scripts/upstream.sh builds them
	Dir             string // "": a temporary one
	// Fast lets etcd go on before its writes are on disk. Answers are the same;
	// not for measuring.
	Fast bool
	// Arguments are added to kube-apiserver's.
	Arguments []string
}

// withoutPlugins are the admission plugins that look at objects which skiff does
// not serve.
const withoutPlugins = "LimitRanger,ResourceQuota,PodSecurity,MutatingAdmissionPolicy,MutatingAdmissionWebhook," +
	"ValidatingAdmissionPolicy,ValidatingAdmissionWebhook,DefaultIngressClass,DefaultStorageClass"

// Start starts etcd and kube-apiserver and waits until they are ready.
func (k Kubernetes) Start(ctx context.Context) (_ *Server, err error) {
	s, err := newServer("upstream", k.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.Stop() // the first error is the one to tell
		}
	}()
	ports, err := process.FreePorts(3)
	if err != nil {
		return nil, err
	}
	if err := k.startEtcd(ctx, s, ports[0], ports[1]); err != nil {
		return nil, err
	}
	return s, k.startAPI(ctx, s, "http://127.0.0.1:"+ports[0], ports[2])
}

func (k Kubernetes) startEtcd(ctx context.Context, s *Server, port, peers string) error {
	client, peer := "http://127.0.0.1:"+port, "http://127.0.0.1:"+peers
	arguments := []string{
		"--data-dir", filepath.Join(s.Dir, "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
		"--log-level", "warn",
	}
	if k.Fast {
		arguments = append(arguments, "--unsafe-no-fsync")
	}
	if err := s.launch(k.Etcd, nil, arguments...); err != nil {
		return err
	}
	return s.await(ctx, process.Anyone(), client+"/health")
}

func (k Kubernetes) startAPI(ctx context.Context, s *Server, etcd, port string) error {
	keys, err := newKeys(filepath.Join(s.Dir, "keys"))
	if err != nil {
		return err
	}
	s.Config = keys.config("https://127.0.0.1:" + port)
	err = s.launch(k.APIServer, nil, append([]string{
		"--etcd-servers", etcd,
		"--bind-address", "127.0.0.1", "--secure-port", port, "--advertise-address", Advertised,
		"--tls-cert-file", keys.file("serving.crt"), "--tls-private-key-file", keys.file("serving.key"),
		"--client-ca-file", keys.file("authority.crt"),
		"--service-account-issuer", Issuer,
		"--service-account-key-file", keys.file("serving.crt"), "--service-account-signing-key-file", keys.file("serving.key"),
		"--service-cluster-ip-range", ServiceRange, "--service-node-port-range", NodePorts,
		"--authorization-mode", "Node,RBAC", "--allow-privileged",
		"--enable-admission-plugins", "NodeRestriction", "--disable-admission-plugins", withoutPlugins,
		"--profiling=false",
	}, k.Arguments...)...)
	if err != nil {
		return err
	}
	if err := s.await(ctx, process.Anyone(), s.Config.Host+"/readyz"); err != nil {
		return err
	}
	// It makes what every cluster has when it is ready already, this last.
	web, err := rest.HTTPClientFor(s.Config)
	if err != nil {
		return err
	}
	defer web.CloseIdleConnections()
	return s.await(ctx, web, s.Config.Host+"/api/v1/namespaces/default/services/kubernetes")
}

// keys are what upstream's server needs, as files.
type keys struct {
	dir       string
	authority pki.Pair
	admin     pki.Pair
}

func newKeys(dir string) (k keys, err error) {
	k.dir = dir
	clock := pki.Clock{Now: time.Now}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return k, err
	}
	if k.authority, err = pki.NewAuthority("upstream", clock); err != nil {
		return k, err
	}
	serving, err := k.authority.Issue(pki.Subject{
		CommonName: "kube-apiserver", Server: true,
		Names: []string{"localhost"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	}, clock)
	if err != nil {
		return k, err
	}
	if k.admin, err = k.authority.Issue(pki.Subject{CommonName: "system:admin", Organizations: []string{"system:masters"}, Client: true}, clock); err != nil {
		return k, err
	}
	key, err := serving.KeyPEM()
	if err != nil {
		return k, err
	}
	for name, data := range map[string][]byte{
		"authority.crt": k.authority.CertificatePEM(), "serving.crt": serving.CertificatePEM(), "serving.key": key,
	} {
		if err := os.WriteFile(k.file(name), data, 0o600); err != nil {
			return k, fmt.Errorf("write keys: %w", err)
		}
	}
	return k, nil
}

func (k keys) file(name string) string { return filepath.Join(k.dir, name) }

// config is an administrator's.
func (k keys) config(url string) *rest.Config {
	key, err := k.admin.KeyPEM()
	if err != nil {
		panic(err) // the key was made a moment ago
	}
	return &rest.Config{
		Host: url, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: k.authority.CertificatePEM(), CertData: k.admin.CertificatePEM(), KeyData: key},
	}
}
