package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// newDocuments returns what can be read besides resources, with a slash at its
// path's end or without.
func (h *Handler) newDocuments() map[string]http.HandlerFunc {
	documents := map[string]http.HandlerFunc{"/version": h.producing([]string{typeJSON}, h.version)}
	for path, serve := range h.discoveryPaths() {
		documents[path] = h.producing(oneTypes, serve)
	}
	if h.JWKS != nil {
		documents["/openid/v1/jwks"] = h.document(h.JWKS, "application/jwk-set+json")
	}
	if h.OpenIDConfiguration != nil {
		documents["/.well-known/openid-configuration"] = h.document(h.OpenIDConfiguration, "application/json")
	}
	return documents
}

// newPaths returns what is served under its very path, whatever the method.
func (h *Handler) newPaths() map[string]http.HandlerFunc {
	paths := h.groupPaths()
	if h.Metrics != nil {
		paths["/metrics"] = h.Metrics.ServeHTTP
	}
	maps.Copy(paths, h.healthPaths())
	maps.Copy(paths, h.openAPIPaths())
	if h.CACerts != nil {
		paths["/cacerts"] = h.document(h.CACerts, "text/plain; charset=utf-8")
	}
	index := slices.AppendSeq(slices.Collect(maps.Keys(paths)), maps.Keys(h.documents))
	index = slices.DeleteFunc(index, func(p string) bool { return strings.HasSuffix(p, "/") })
	slices.Sort(index)
	paths["/"] = func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, struct {
			Paths []string `json:"paths"`
		}{index})
	}
	return paths
}

// writeJSON answers with indented JSON, as upstream does where people read.
func writeJSON(w http.ResponseWriter, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header()["Cache-Control"] = noCache
	_, _ = w.Write(data)
}

// version answers with what runs.
func (h *Handler) version(w http.ResponseWriter, _ *http.Request) { writeJSON(w, h.Version) }

// producing serves those who take one of the types.
func (h *Handler) producing(types []string, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := acceptable(r, types); err != nil {
			h.fail(w, r, err)
			return
		}
		serve(w, r)
	}
}

// document answers with a document that its source computes.
func (h *Handler) document(source func() ([]byte, error), contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := source()
		if err != nil {
			h.fail(w, r, fmt.Errorf("read %s: %w", r.URL.Path, err))
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(data)
	}
}
