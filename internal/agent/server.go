package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/stream"
)

// The client that may use all of the node API whether the API server answers or not,
// and the group that may do all.
const (
	apiServerClient = "kube-apiserver-kubelet-client"
	mastersGroup    = "system:masters"
)

// serve answers the node API until the context ends.
func (a *Agent) serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          zap.NewStdLog(a.log.WithOptions(zap.IncreaseLevel(zap.ErrorLevel))),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: a.ServingCert,
			ClientAuth:     tls.VerifyClientCertIfGiven,
			ClientCAs:      a.ClientCA,
			Time:           a.Latest,
			NextProtos:     []string{"http/1.1"}, // streams take connections over
		},
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.ServeTLS(a.listener, "", "")
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve node API: %w", err)
}

// handler routes the node API.
func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /pods", a.servePods)
	mux.HandleFunc("GET /runningpods/", a.servePods)
	mux.HandleFunc("GET /configz", a.serveConfig)
	mux.HandleFunc("/stats/summary", a.serveSummary)
	mux.HandleFunc("GET /metrics", a.serveOwnMetrics)
	mux.HandleFunc("GET /metrics/resource", a.serveResource)
	mux.HandleFunc("GET /metrics/cadvisor", a.serveCadvisor)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.serveLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		stream.ServeExec(w, r, backend{a}, containerOf(r))
	})
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		stream.ServeAttach(w, r, backend{a}, containerOf(r))
	})
	mux.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		stream.ServePortForward(w, r, backend{a}, r.PathValue("namespace"), r.PathValue("pod"))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				a.panics.Add(1)
				a.log.Error("request panicked", zap.Any("panic", p), zap.String("path", r.URL.Path), zap.Stack("stack"))
			}
		}()
		if a.letIn(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

func mayUse(cert *x509.Certificate) bool {
	return cert.Subject.CommonName == apiServerClient || slices.Contains(cert.Subject.Organization, mastersGroup)
}

func containerOf(r *http.Request) stream.Container {
	return stream.Container{Namespace: r.PathValue("namespace"), Pod: r.PathValue("pod"), Name: r.PathValue("container")}
}

// servePods lists the Pods of this node with the statuses it has for them.
func (a *Agent) servePods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{Items: []corev1.Pod{}}
	list.Kind, list.APIVersion = "PodList", "v1"
	for _, worker := range a.allWorkers() {
		pod, _ := worker.livePod()
		list.Items = append(list.Items, *pod)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(&list); err != nil {
		a.log.Debug("answer pods", zap.Error(err))
	}
}

// serveLogs sends the log of a container's present or previous attempt.
func (a *Agent) serveLogs(w http.ResponseWriter, r *http.Request) {
	o, previous, err := logOptions(r, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if r.URL.Query().Has("sinceTime") { // of who asks; the log has this machine's times
		o.Since = a.Time.Ours(o.Since)
	}
	c := containerOf(r)
	path, done, err := a.logOf(c, previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain")
	flush := func() { _ = control.Flush() }
	if err := stream.Copy(r.Context(), path, o, done, w, flush); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			http.Error(w, fmt.Sprintf("failed to try resolving symlinks in path %q: no such file", path), http.StatusInternalServerError)
			return
		}
		a.log.Debug("send log", zap.String("path", path), zap.Error(err))
	}
}

// logOptions reads the query of a log request.
func logOptions(r *http.Request, now time.Time) (o stream.LogOptions, previous bool, err error) {
	q := r.URL.Query()
	flag := func(name string) bool {
		v := q.Get(name)
		if v == "" {
			return false
		}
		b, parseErr := strconv.ParseBool(v)
		if parseErr != nil {
			err = fmt.Errorf("%s: %q is not a truth value", name, v)
		}
		return b
	}
	number := func(name string, least int64) *int64 {
		v := q.Get(name)
		if v == "" {
			return nil
		}
		n, parseErr := strconv.ParseInt(v, 10, 64)
		if parseErr != nil || n < least {
			err = fmt.Errorf("%s: %q must be a number of at least %d", name, v, least)
		}
		return &n
	}
	o = stream.LogOptions{Follow: flag("follow"), Timestamps: flag("timestamps"), Tail: number("tailLines", 0), Limit: number("limitBytes", 1)}
	previous = flag("previous")
	if seconds := number("sinceSeconds", 1); seconds != nil {
		o.Since = now.Add(-time.Duration(*seconds) * time.Second)
	}
	if v := q.Get("sinceTime"); v != "" {
		var parseErr error
		if o.Since, parseErr = time.Parse(time.RFC3339, v); parseErr != nil {
			err = fmt.Errorf("sinceTime: %w", parseErr)
		}
	}
	switch v := q.Get("stream"); v {
	case "", corev1.LogStreamAll:
	case corev1.LogStreamStdout:
		o.Stream = "stdout"
	case corev1.LogStreamStderr:
		o.Stream = "stderr"
	default:
		err = fmt.Errorf("stream: %q must be one of All, Stdout, Stderr", v)
	}
	return o, previous, err
}
