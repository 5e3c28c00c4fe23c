package join

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// A node that runs tries the servers that the cluster names by now.
func TestServersAreLearned(t *testing.T) {
	tried := make(chan string, 9)
	up, err := uplink.New(uplink.Config{
		Servers: []string{"https://192.0.2.1:6443"}, Authority: x509.NewCertPool(), Clock: pki.Clock{Now: time.Now},
		Connect: func(_ context.Context, address string) (net.Conn, error) {
			tried <- address
			return nil, errors.New("connection refused")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &Membership{Uplink: up, keep: NewDirectory(config.NewHost(t.TempDir())), log: zap.NewNop()}
	m.note(Cluster{}, map[string]string{
		"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "cluster-dns": "10.43.0.10", "cluster-domain": "cluster.local",
		"servers": "https://192.0.2.1:6443,https://192.0.2.9:6443",
	})
	if _, err := up.Dial(t.Context()); err == nil {
		t.Fatal("connected to nobody")
	}
	close(tried)
	var got []string
	for address := range tried {
		got = append(got, address)
	}
	if want := []string{"192.0.2.1:6443", "192.0.2.9:6443"}; !slices.Equal(got, want) {
		t.Errorf("tried %q, want %q", got, want)
	}
}
