// Command skiff-shim keeps the containers of one Pod: it drives runc, is the
// parent of what runc leaves behind, writes the containers' logs, connects
// attach and exec streams and remembers exit codes, whether skiff runs or not.
//
// It is started with its two listening sockets as descriptors 3 (containerd's
// task service v3 over ttrpc) and 4 (streams, see wire.go), in the Pod's run
// directory, and stays until Shutdown. It never reads images, mounts root file
// systems or talks to the network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

func main() {
	switch os.Args[0] {
	case pauseSetUp:
		end(becomePause())
	case pauseName:
		end(pauseUntilAlone())
	}
	runc := flag.String("runc", "", "path of runc")
	root := flag.String("root", "", "runc's state directory")
	flag.Parse()
	end(run(*runc, *root))
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "skiff-shim:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(runcPath, runcRoot string) error {
	// Hundreds of shims run beside the Pods: memory counts more than speed.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(30)
	// skiff decides when a shim ends, not a terminal or a service manager. These
	// signals are caught, not ignored: what is ignored stays so for containers.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper: %w", err)
	}
	tasks, err := inherited(3)
	if err != nil {
		return err
	}
	streams, err := inherited(4)
	if err != nil {
		return err
	}
	if err := os.WriteFile(PIDFile, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	reaper := newReaper()
	go reaper.run()
	s := newService(&runc{path: runcPath, root: runcRoot, reaper: reaper})
	go acceptStreams(streams, s)
	return serve(tasks, s)
}

// serve answers ttrpc calls until Shutdown was called and answered.
func serve(l net.Listener, s *service) error {
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	task.RegisterTTRPCTaskService(server, s)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(context.Background(), l) }()
	select {
	case err := <-ended:
		return err
	case <-s.shutdown:
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func inherited(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is not a listening socket (skiff starts this program): %w", fd, err)
	}
	return l, nil
}
