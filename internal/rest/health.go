package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
)

var (
	errShuttingDown = errors.New("process is shutting down")
)

// healthChecks returns the checks of an endpoint, ping first as upstream's.
func (h *Handler) healthChecks(endpoint string) []Check {
	checks := []Check{{Name: "ping", Ask: func(context.Context) error { return nil }}}
	for _, c := range h.Checks {
		if endpoint == "readyz" || c.Live {
			checks = append(checks, c)
		}
	}
	if endpoint == "readyz" {
		checks = append(checks, Check{Name: "shutdown", Ask: func(context.Context) error {
			if h.stopping.Err() != nil {
				return errShuttingDown
			}
			return nil
		}})
	}
	return checks
}

// healthPaths returns /healthz, /livez and /readyz, each with its checks below.
func (h *Handler) healthPaths() map[string]http.HandlerFunc {
	paths := map[string]http.HandlerFunc{}
	for _, endpoint := range []string{"healthz", "livez", "readyz"} {
		checks := h.healthChecks(endpoint)
		paths["/"+endpoint] = func(w http.ResponseWriter, r *http.Request) { h.health(w, r, endpoint, checks) }
		for _, c := range checks {
			paths["/"+endpoint+"/"+c.Name] = func(w http.ResponseWriter, r *http.Request) { oneCheck(w, r, c) }
		}
	}
	return paths
}

// health asks all checks and answers in upstream's text form.
func (h *Handler) health(w http.ResponseWriter, r *http.Request, endpoint string, checks []Check) {
	query := r.URL.Query()
	excluded := query["exclude"]
	var report strings.Builder
	var failed []string
	for _, c := range checks {
		if i := slices.Index(excluded, c.Name); i >= 0 {
			excluded = slices.Delete(excluded, i, i+1)
			fmt.Fprintf(&report, "[+]%s excluded: ok\n", c.Name)
			continue
		}
		if err := c.Ask(r.Context()); err != nil {
			h.Log.Warn("health check failed", zap.String("endpoint", endpoint), zap.String("check", c.Name), zap.Error(err))
			failed = append(failed, c.Name)
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.Name)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", c.Name)
	}
	if len(excluded) > 0 {
		quoted := make([]string, len(excluded))
		for i, name := range excluded {
			quoted[i] = fmt.Sprintf("%q", name)
		}
		fmt.Fprintf(&report, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(quoted, ","))
	}
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header["Cache-Control"] = noCache
	if len(failed) > 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", report.String(), endpoint)
		return
	}
	if _, verbose := query["verbose"]; !verbose {
		fmt.Fprint(w, "ok")
		return
	}
	fmt.Fprintf(w, "%s%s check passed\n", report.String(), endpoint)
}

// oneCheck answers for a single check.
func oneCheck(w http.ResponseWriter, r *http.Request, c Check) {
	if err := c.Ask(r.Context()); err != nil {
		http.Error(w, fmt.Sprintf("internal server error: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "ok")
}
