package agent

import (
	"context"
	"io"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Runtime runs the containers of one node; agent/containerd is the real one.
// Containers outlive the process that made them: List finds them again.
// All methods are safe for concurrent use.
type Runtime interface {
	// Create prepares a container (snapshot, bundle, runc create). Creating
	// one whose ID exists is an error that IsExist reports; a container that
	// is well described but cannot run is a RunError, and there is none then.
	Create(ctx context.Context, c Container) error
	// Start runs the created container's process.
	Start(ctx context.Context, id string) error
	// Kill sends a signal to the container's first process; a container that
	// has ended is no error.
	Kill(ctx context.Context, id string, signal int) error
	// Remove kills what still runs and deletes the container and its
	// snapshot. One that does not exist is no error.
	Remove(ctx context.Context, id string) error
	// RemovePod ends the Pod's shim and whatever of the Pod is left.
	RemovePod(ctx context.Context, podUID string) error
	// List returns every container of this node, ended ones included.
	List(ctx context.Context) ([]ContainerState, error)
	// State returns one container; ok is false if there is none of that ID.
	State(ctx context.Context, id string) (s ContainerState, ok bool, err error)
	// Follow calls fn with the state of each container that starts or ends, one call
	// at a time, until the context ends.
	Follow(ctx context.Context, fn func(ContainerState)) error
	// Exec runs a command in a container and returns its exit code.
	Exec(ctx context.Context, id string, e Exec) (exitCode int, err error)
	// Attach connects streams to the container's first process until it ends
	// or the context does.
	Attach(ctx context.Context, id string, s Streams) error
	// Resize sets the terminal size of the container's first process.
	Resize(ctx context.Context, id string, width, height uint16) error
	// ReopenLog makes the container's log writer open its file anew (rotation).
	ReopenLog(ctx context.Context, id string) error
	// LayerUsage is what a container has written into its root file system.
	LayerUsage(ctx context.Context, id string) (bytes, inodes int64, err error)
	// ImageDir is where images and layers lie, "" where that is not known.
	ImageDir() string
	// Version is what nodeInfo.containerRuntimeVersion says:
	// "containerd://2.3.7".
	Version() string
}

// Images is the node's image store; agent/image is the real one.
type Images interface {
	// Get returns an image that is present.
	Get(ctx context.Context, ref string) (Image, bool, error)
	// Pull fetches an image. Concurrent pulls of one reference are one. The error is
	// ErrRegistryUnavailable where that is why.
	Pull(ctx context.Context, ref string, credentials []Credential) (Image, error)
	// List returns every image, for the Node's status.
	List(ctx context.Context) ([]Image, error)
	// Remove takes all names of the image with this ID away.
	Remove(ctx context.Context, id string) error
	// Mount shows an image's files at dir, to be read only. The key is its
	// holder's name: what is mounted stays as it is, and on the node, when the
	// image's names go, until Unmount with the same key; a key that was used
	// before, by an earlier boot say, shows what it showed then.
	Mount(ctx context.Context, image Image, key, dir string) error
	// Unmount undoes Mount. What is not mounted is no error.
	Unmount(ctx context.Context, key, dir string) error
}

// Network connects Pods; network/pod is the real one.
type Network interface {
	// Attach gives the namespace pinned at netns its link and addresses. It is
	// idempotent by Pod UID: a Pod that has addresses keeps them, also across
	// a restart of skiff. One that has none gets those that it had formerly,
	// if nobody has them now.
	Attach(ctx context.Context, podUID, netns string, former []netip.Addr) ([]netip.Addr, error)
	// Expose has what is sent to these ports of the host go to the attached Pod,
	// and no others of its former ones.
	Expose(podUID string, ports []corev1.ContainerPort) error
	// Detach frees what Attach and Expose made. A Pod that is not attached is no
	// error.
	Detach(ctx context.Context, podUID string) error
	// Retain detaches every Pod that is not in the list and that no Attach has
	// been asked for since the start.
	Retain(ctx context.Context, podUIDs []string) error
}

// Container is everything the runtime must know to create a container; nothing
// in it refers to the API.
type Container struct {
	ID      string // 64 hexadecimal digits, chosen by the agent
	Name    string
	Attempt int  // restart count
	Init    bool // the Pod goes on when it has ended, and not before
	Pod     PodRef

	Image      Image
	Args       []string // the whole command line, entrypoint included
	Env        []string
	WorkingDir string
	Hostname   string
	Mounts     []Mount
	User       User

	Privileged     bool
	ReadOnlyRootfs bool
	NoNewPrivs     bool
	CapAdd         []string // "NET_ADMIN", "ALL"
	CapDrop        []string
	Seccomp        string // "" is RuntimeDefault, "unconfined", or the path of a profile
	AppArmor       string // "" (as AppArmorDefault where that can be), AppArmorDefault, AppArmorUnconfined, or AppArmorLocal with a profile's name
	MaskedPaths    bool   // procMount Default
	Sysctls        map[string]string
	Resources      Resources

	TTY       bool
	Stdin     bool
	StdinOnce bool
	LogPath   string // CRI log file
	Devices   []string
}

// PodRef is what a container knows of its Pod.
type PodRef struct {
	UID, Namespace, Name string
	NetNS                string // path of the pinned namespace, "" for the host's
	IPCNS, UTSNS         string // paths of pinned namespaces, "" for the host's
	// UserNS is the path of a pinned user namespace to which those above belong, ""
	// for the host's; FirstID is the machine's ID of its root.
	UserNS       string
	FirstID      uint32
	PIDNS        string // "" private, "host", SharedPIDs, or a path
	CgroupParent string // relative to the cgroup root of each controller
	Handler      string // what runs the Pod, "" for the default; the Pod's first container decides
}

// The AppArmor of containers, in the words of the older annotation.
const (
	AppArmorDefault    = corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	AppArmorUnconfined = corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	AppArmorLocal      = corev1.DeprecatedAppArmorBetaProfileNamePrefix
)

// SharedPIDs is the PIDNS of containers that share one process namespace, in which
// process 1 is the runtime's and reaps.
const SharedPIDs = "pod"

// Mount is a bind mount, or a tmpfs when Source is "tmpfs".
type Mount struct {
	Source, Target string
	ReadOnly       bool
	Recursive      bool     // what is mounted inside a read-only one is read-only too
	Propagation    string   // "private", "rslave", "rshared"
	Options        []string // of a tmpfs
}

// User is whom a container's process runs as.
type User struct {
	// Spec, where it is not empty, is "user" or "user:group", each by name or
	// number. The runtime looks it up in /etc/passwd and /etc/group of the
	// container's root file system; what it finds takes the place of UID and
	// GID, and the groups that /etc/group lists for the user are added to
	// Groups. A number that is not listed is used as it is, with group 0 where
	// none is given; a name that is not listed is an error.
	Spec string
	// Strict leaves out the groups that /etc/group lists
	// (supplementalGroupsPolicy Strict).
	Strict bool
	UID    int64
	GID    int64
	Groups []int64 // supplementary groups
}

// Resources are a container's cgroup settings; zero means unset.
type Resources struct {
	CPUShares   uint64
	CPUQuota    int64 // microseconds per period
	CPUPeriod   uint64
	MemoryLimit int64 // bytes
	Swap        int64 // bytes, where cgroups can be given so much; none elsewhere
	PidsLimit   int64
	OOMScoreAdj int
	OOMGroup    bool             // all its processes end when one is killed for memory, where cgroups do that
	HugePages   map[string]int64 // bytes by the size of a page, of all that the machine has, as cgroups name it: "2MB"
}

// RunError is why a container could not run that could be described: its
// program does not exist, say. To people that is an attempt that failed.
type RunError struct{ Cause error }

func (e RunError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e RunError) Unwrap() error { return e.Cause }

// ContainerPhase is where a container is in its life.
type ContainerPhase string

// The phases of a container.
const (
	ContainerCreated ContainerPhase = "created"
	ContainerRunning ContainerPhase = "running"
	ContainerExited  ContainerPhase = "exited"
)

// ContainerState is what the runtime knows of a container.
type ContainerState struct {
	ID, Name   string
	Attempt    int
	Pod        PodRef // UID, Namespace, Name only
	Phase      ContainerPhase
	PID        int
	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool
	ImageRef   string
	ImageID    string // digest of the image
	LogPath    string
	User       *User // whom the first process began as, in numbers; nil: not known
}

// Exec is a command to run in a container.
type Exec struct {
	Args    []string
	TTY     bool
	Streams Streams
	Resize  <-chan [2]uint16 // width, height
}

// Streams are the ends of a process's standard streams; nil ones are not
// connected.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Image is an image that is present on the node.
type Image struct {
	Ref         string   // as asked for, normalized
	ID          string   // sha256:… of the configuration
	Names       []string // tags and digests
	Size        int64
	Entrypoint  []string
	Cmd         []string
	Env         []string
	WorkingDir  string
	User        string // as the image says: "", "1000", "name:group"
	StopSignal  string
	Volumes     []string
	ExposedTCP  []int
	RootFSChain string // chain ID of the unpacked snapshot
	Kept        bool   // pinned or imported by hand: never removed for room

	Took    time.Duration // of one that was pulled just now: how long, without waiting for others
	Secrets []string      // marks (see Credential.Marks) of what it was pulled with; none: any Pod may use it
}

// Credential is what a pull may log in with.
type Credential struct {
	Registry           string
	Username, Password string
	Token              string
	Source             string // UID of the Secret that has it
}
