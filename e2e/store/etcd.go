package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// etcdFlags are the defaults, durability included, with what Kubernetes adds: a
// compaction every five minutes, and room for a cluster.
var etcdFlags = []string{
	"--listen-client-urls", "unix://client:0", "--advertise-client-urls", "unix://client:0",
	"--listen-peer-urls", "unix://peer:0", "--initial-advertise-peer-urls", "unix://peer:0",
	"--initial-cluster", "default=unix://peer:0",
	"--auto-compaction-mode", "periodic", "--auto-compaction-retention", "5m",
	"--quota-backend-bytes", "8589934592",
}

// etcd is an etcd with one member that listens on a Unix socket, the cheapest
// way to it that there is.
type etcd struct {
	binary, dir string
	sockets     string // its working directory: short, as the names of sockets must be
	process     *exec.Cmd
	clients     []*clientv3.Client // each with a connection of its own
	use         int                // how many of them are used
	revisions   []int64            // of each object
}

// connections are the numbers of them of which the fastest counts.
var connections = []int{1, 4, 16}

func startEtcd(ctx context.Context, binary, dir string, objects int) (*etcd, error) {
	sockets, err := os.MkdirTemp("", "store-etcd-")
	if err != nil {
		return nil, err
	}
	e := &etcd{binary: binary, dir: dir, sockets: sockets, use: connections[0], revisions: make([]int64, objects)}
	if _, err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// start starts the process and returns how long it took to answer.
func (e *etcd) start(ctx context.Context) (time.Duration, error) {
	log, err := os.OpenFile(e.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	process := exec.Command(e.binary, append([]string{"--data-dir", e.dir}, etcdFlags...)...)
	process.Dir, process.Stdout, process.Stderr = e.sockets, log, log
	process.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH) // 3.4 asks for it on arm64
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := process.Start(); err != nil {
		return 0, fmt.Errorf("start etcd: %w", err)
	}
	e.process = process
	if err := e.connect(ctx); err != nil {
		text, _ := os.ReadFile(e.dir + ".log")
		return 0, fmt.Errorf("etcd does not answer: %w; its log:\n%s", err, text[max(0, len(text)-2000):])
	}
	return time.Since(began), nil
}

// connect waits for the socket, then for the first answer: etcd listens before
// it serves.
func (e *etcd) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	socket := filepath.Join(e.sockets, "client:0")
	for dialer := (net.Dialer{}); ; {
		if conn, err := dialer.DialContext(ctx, "unix", socket); err == nil {
			conn.Close()
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	for range slices.Max(connections) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		e.clients = append(e.clients, client)
	}
	_, err := e.clients[0].Get(ctx, "/registry/health")
	return err
}

func (e *etcd) name() string   { return "etcd" }
func (e *etcd) pids() []int    { return []int{e.process.Process.Pid} }
func (e *etcd) commits() int64 { return 0 }

func (e *etcd) update(ctx context.Context, i int, value []byte) (err error) {
	e.revisions[i], err = e.put(ctx, i%e.use, "/registry/things/"+objectName(i), value, e.revisions[i])
	return err
}

// tune finds the number of connections with which etcd is fastest in a race, and
// uses that from then on.
func (e *etcd) tune(ctx context.Context, r race) error {
	r.keeper = e
	best, most := connections[0], 0.0
	for _, n := range connections {
		e.use = n
		result, err := r.run(ctx)
		if err != nil {
			return err
		}
		if rate := result.perSecond(); rate > most {
			best, most = n, rate
		}
	}
	e.use = best
	return nil
}

// put writes a key if it is at a revision, as an API server does.
func (e *etcd) put(ctx context.Context, connection int, key string, value []byte, revision int64) (int64, error) {
	answer, err := e.clients[connection].Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(value))).
		Commit()
	if err != nil {
		return revision, err
	}
	if !answer.Succeeded {
		return revision, fmt.Errorf("%s is not at revision %d", key, revision)
	}
	return answer.Header.Revision, nil
}

// stop ends the process in its own way.
func (e *etcd) stop() error {
	var failed error
	for _, client := range e.clients {
		failed = errors.Join(failed, client.Close())
	}
	e.clients = nil
	if e.process == nil {
		return failed
	}
	_ = e.process.Process.Signal(syscall.SIGTERM) // it may be gone
	kill := time.AfterFunc(20*time.Second, func() { _ = e.process.Process.Kill() })
	defer kill.Stop()
	_ = e.process.Wait() // a signal ended it, as it should
	e.process = nil
	return failed
}

func (e *etcd) close() error { return errors.Join(e.stop(), os.RemoveAll(e.sockets)) }
