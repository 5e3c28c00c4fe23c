package hollow

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	goruntime "runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/userns"
)

// machine is what a node says of the machine below it: a small one, whose
// identifiers come from the node's name.
type machine struct{ node string }

// Describe implements agent.Machine.
func (m machine) Describe() (agent.Description, error) {
	sum := sha256.Sum256([]byte("hollow " + m.node))
	id := hex.EncodeToString(sum[:16])
	return agent.Description{
		Info: corev1.NodeSystemInfo{
			MachineID: id, SystemUUID: id, BootID: id, KernelVersion: "0.0-hollow", OSImage: "skiff hollow node",
			OperatingSystem: "linux", Architecture: goruntime.GOARCH,
		},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU:              resource.MustParse("4"),
			corev1.ResourceMemory:           resource.MustParse("8Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("64Gi"),
			corev1.ResourcePods:             resource.MustParse("110"),
		},
	}, nil
}

// Pressure implements agent.Machine.
func (machine) Pressure() agent.Pressure { return agent.Pressure{} }

// namespaces are none.
type namespaces struct{}

func (namespaces) Create(string) error                                  { return nil }
func (namespaces) CreateIPC(string, string) error                       { return nil }
func (namespaces) CreateUTS(string, string) error                       { return nil }
func (namespaces) CreateUser(userns.Pins, uint32, string, string) error { return nil }
func (namespaces) Remove(string) error                                  { return nil }
func (namespaces) Spare() error                                         { return nil }
func (namespaces) DialIn(context.Context, string, string, string) (net.Conn, error) {
	return nil, errors.New("nothing listens in a hollow Pod")
}

// cgroups are none.
type cgroups struct{}

func (cgroups) Create(cgroup.Pod) error                            { return nil }
func (cgroups) Parent(p cgroup.Pod) string                         { return p.UID }
func (cgroups) Enforce(uint64, int64) error                        { return nil }
func (cgroups) Whole() (u cgroup.Usage, _ error)                   { return u, nil }
func (cgroups) Resize(cgroup.Pod, []cgroup.Change) error           { return nil }
func (cgroups) Usage(cgroup.Pod, string) (u cgroup.Usage, _ error) { return u, nil }
func (cgroups) Path(p cgroup.Pod, container string) string         { return "/" + p.UID + "/" + container }
func (cgroups) Remove(string) error                                { return nil }
func (cgroups) UIDs() ([]string, error)                            { return nil, nil }

// logs stay as they are: of each container there is one line.
type logs struct{}

func (logs) Add(string, string) {}
func (logs) Remove(string)      {}
func (logs) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// reach answers probes and hooks: all is well.
func reach(context.Context, corev1.ProbeHandler) error { return nil }

func pool(root *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(root)
	return p
}
