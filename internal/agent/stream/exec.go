package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Upstream's limits on a connection.
const (
	idleTimeout    = 4 * time.Hour
	streamCreation = remotecommand.DefaultStreamCreationTimeout
)

// Container names the container that a request is about.
type Container struct{ Namespace, Pod, Name string }

// Session is the connected ends of an exec or attach; those not asked for are
// nil.
type Session struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan [2]uint16 // width, height
}

// Backend does what the requests ask for. An error becomes the request's
// failure; its context ends when the client goes away.
type Backend interface {
	Exec(ctx context.Context, c Container, command []string, s Session) (exitCode int, err error)
	Attach(ctx context.Context, c Container, s Session) error
	// Dial connects to a port inside the Pod.
	Dial(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
}

// ServeExec runs the command of the request's query in the container.
func ServeExec(w http.ResponseWriter, r *http.Request, b Backend, c Container) {
	command := r.URL.Query()["command"]
	if len(command) == 0 {
		http.Error(w, "you must specify at least 1 command for the exec", http.StatusBadRequest)
		return
	}
	run := func(ctx context.Context, s Session) (int, error) { return b.Exec(ctx, c, command, s) }
	serve(w, r, c, run, func(o *remotecommand.Options) {
		remotecommand.ServeExec(w, r, runner(run), c.Pod, "", c.Name, command, o, idleTimeout, streamCreation, remotecommand.SupportedStreamingProtocols)
	})
}

// ServeAttach connects to the container's first process.
func ServeAttach(w http.ResponseWriter, r *http.Request, b Backend, c Container) {
	run := func(ctx context.Context, s Session) (int, error) { return 0, b.Attach(ctx, c, s) }
	serve(w, r, c, run, func(o *remotecommand.Options) {
		remotecommand.ServeAttach(w, r, runner(run), c.Pod, "", c.Name, o, idleTimeout, streamCreation, remotecommand.SupportedStreamingProtocols)
	})
}

// runner adapts a function to the SPDY library's interfaces.
type runner func(ctx context.Context, s Session) (int, error)

// ExecInContainer implements remotecommand.Executor.
func (f runner) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	code, runErr := f(ctx, session(ctx, in, out, err, tty, resize))
	if runErr == nil && code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit status %d", code), Code: code}
	}
	return runErr
}

// AttachContainer implements remotecommand.Attacher.
func (f runner) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	_, runErr := f(ctx, session(ctx, in, out, err, tty, resize))
	return runErr
}

// session takes what the library gives; nil pointers must become nil
// interfaces.
func session(ctx context.Context, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) Session {
	s := Session{TTY: tty}
	if in != nil {
		s.Stdin = in
	}
	if out != nil {
		s.Stdout = out
	}
	if err != nil && !tty {
		s.Stderr = err
	}
	if resize != nil {
		sizes := make(chan [2]uint16)
		s.Resize = sizes
		go func() { // ends with the request, whose context it has
			for {
				select {
				case size, ok := <-resize:
					if !ok {
						return
					}
					select {
					case sizes <- [2]uint16{size.Width, size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return s
}

// serve chooses between our WebSocket protocols and the library.
func serve(w http.ResponseWriter, r *http.Request, c Container, run runner, library func(*remotecommand.Options)) {
	o, err := options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	*r = *r.WithContext(ctx)
	if websocket.IsWebSocketUpgrade(r) && offers(r, remotecommand.StreamProtocolV5Name, remotecommand.StreamProtocolV4Name) {
		serveWebSocket(w, r, o, run)
		return
	}
	library(o)
}

// options reads which streams are wanted, in the node's words or the API's.
func options(r *http.Request) (*remotecommand.Options, error) {
	q := r.URL.Query()
	wanted := func(names ...string) bool {
		for _, n := range names {
			if v, err := strconv.ParseBool(q.Get(n)); err == nil && v {
				return true
			}
		}
		return false
	}
	o := &remotecommand.Options{
		Stdin:  wanted(remotecommand.ExecStdinParam, "stdin"),
		Stdout: wanted(remotecommand.ExecStdoutParam, "stdout"),
		Stderr: wanted(remotecommand.ExecStderrParam, "stderr"),
		TTY:    wanted(remotecommand.ExecTTYParam),
	}
	if o.TTY {
		o.Stderr = false // a terminal has one output
	}
	if !o.Stdin && !o.Stdout && !o.Stderr {
		return nil, fmt.Errorf("you must specify at least 1 of stdin, stdout, stderr")
	}
	return o, nil
}

func offers(r *http.Request, protocols ...string) bool {
	return slices.ContainsFunc(websocket.Subprotocols(r), func(p string) bool { return slices.Contains(protocols, strings.TrimSpace(p)) })
}

// exitStatus is what the error stream says at the end.
func exitStatus(code int, err error) []byte {
	status := metav1.Status{Status: metav1.StatusSuccess}
	switch {
	case err != nil:
		status = metav1.Status{
			Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Internal error occurred: error executing command in container: %v", err),
		}
	case code != 0:
		status = metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code),
			}}},
		}
	}
	data, err := json.Marshal(&status)
	if err != nil {
		panic("a status cannot be encoded: " + err.Error())
	}
	return data
}
