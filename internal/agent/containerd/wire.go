package containerd

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"time"
)

// This file is the contract between the shim and internal/agent/containerd,
// which has the same text below its package clause: each is a module of its
// own. Lifecycle goes over ttrpc (containerd's task service v3) on the socket
// TaskSocket; everything with streams over StreamSocket.
//
// A shim lives as long as its Pod, beyond upgrades of skiff: what is here may
// be added to, but not changed.

// Names of files in a Pod's run directory, the shim's working directory.
const (
	TaskSocket   = "task"   // ttrpc
	StreamSocket = "stream" // a Request, then frames
	PIDFile      = "pid"    // of the shim
	ShimLog      = "log"    // what the shim itself has to say
	PIDNamespace = "pidns"  // leads to the shared process namespace, where there is one
)

// Names of files in a container's bundle.
const (
	SpecFile  = "config.json" // the OCI spec
	StateFile = "state.json"  // a State, replaced atomically
	RootFS    = "rootfs"
)

// State is what the shim keeps of a container in its bundle, so that it is
// known whoever asks and even if the shim was killed.
type State struct {
	PID        int       `json:"pid"`
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	ExitCode   int       `json:"exitCode"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
}

// Operations of a Request.
const (
	OpAttach = "attach" // streams of the container's first process
	OpExec   = "exec"   // run a process: it is killed when the connection closes
	OpReopen = "reopen" // open the log file anew
)

// Request is the first thing on a stream connection, as a frame.
type Request struct {
	Op        string          `json:"op"`
	Container string          `json:"container"`
	Exec      string          `json:"exec,omitempty"`    // a name for the process
	Process   json.RawMessage `json:"process,omitempty"` // OCI process
	TTY       bool            `json:"tty,omitempty"`
	Stdin     bool            `json:"stdin,omitempty"`
}

// Kinds of frames.
const (
	FrameRequest    byte = iota // to the shim
	FrameStdin                  // to the shim
	FrameStdinClose             // to the shim
	FrameResize                 // to the shim: width, height as 16 bits each
	FrameReady                  // from the shim: the request is accepted
	FrameStdout                 // from the shim
	FrameStderr                 // from the shim
	FrameExit                   // from the shim, the last: exit code as 32 bits
	FrameError                  // from the shim, the last: a message
)

// MaxFrame is the most bytes that a frame may carry.
const MaxFrame = 1 << 20

// CreateIO tells how a container's streams are connected; it is the Stdin of
// the ttrpc Create request, as JSON.
type CreateIO struct {
	Log       string `json:"log"`
	Stdin     bool   `json:"stdin,omitempty"`
	StdinOnce bool   `json:"stdinOnce,omitempty"`
	// SharePID asks for the process that holds PIDNamespace, which the spec names.
	SharePID bool `json:"sharePID,omitempty"`
}

// WriteFrame writes a kind, a length and the bytes in one write.
func WriteFrame(w io.Writer, kind byte, data []byte) error {
	b := make([]byte, 5+len(data))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(data)))
	copy(b[5:], data)
	_, err := w.Write(b)
	return err
}

// ReadFrame reads what WriteFrame wrote.
func ReadFrame(r io.Reader) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > MaxFrame {
		return 0, nil, io.ErrShortBuffer
	}
	data = make([]byte, n)
	_, err = io.ReadFull(r, data)
	return head[0], data, err
}
