package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// OpenAPI is where the OpenAPI v3 documents are. Names are those of the index:
// "api/v1", "apis/apps/v1".
type OpenAPI interface {
	// Names lists the documents; none: they were left out of the build.
	Names() []string
	// Hash identifies a document's content.
	Hash(name string) string
	// Document returns it as JSON, or as protobuf of gnostic's openapi.v3.
	Document(name string, protobuf bool) ([]byte, error)
}

const (
	openAPIProtobuf = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	// openAPIOldProtobuf is what clients asked for before 1.27.
	openAPIOldProtobuf = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
)

// openAPIPaths returns /openapi/v3 and the documents below it.
func (h *Handler) openAPIPaths() map[string]http.HandlerFunc {
	paths := map[string]http.HandlerFunc{"/openapi/v3": h.openAPIIndex}
	if h.OpenAPI == nil {
		return paths
	}
	for _, name := range h.OpenAPI.Names() {
		paths["/openapi/v3/"+name] = func(w http.ResponseWriter, r *http.Request) { h.openAPIDocument(w, r, name) }
	}
	return paths
}

// openAPIIndex lists the documents with addresses that change when they do.
func (h *Handler) openAPIIndex(w http.ResponseWriter, r *http.Request) {
	var names []string
	if h.OpenAPI != nil {
		names = h.OpenAPI.Names()
	}
	if len(names) == 0 {
		http.Error(w, "404 this build carries no OpenAPI documents: run make and build again", http.StatusNotFound)
		return
	}
	type entry struct {
		ServerRelativeURL string `json:"serverRelativeURL"`
	}
	index := struct {
		Paths map[string]entry `json:"paths"`
	}{map[string]entry{}}
	for _, name := range names {
		index.Paths[name] = entry{"/openapi/v3/" + name + "?hash=" + url.QueryEscape(h.OpenAPI.Hash(name))}
	}
	writeJSON(w, index)
}

// openAPIDocument answers with one document, cached for good by those who
// asked for it by its hash.
func (h *Handler) openAPIDocument(w http.ResponseWriter, r *http.Request, name string) {
	hash := h.OpenAPI.Hash(name)
	if asked := r.URL.Query().Get("hash"); asked != "" {
		if asked != hash {
			w.Header().Set("Location", "/openapi/v3/"+name+"?hash="+url.QueryEscape(hash))
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		w.Header().Set("Cache-Control", "public, immutable")
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	w.Header().Set("ETag", `"`+hash+`"`)
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("If-None-Match"), hash) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	protobuf, ok := wantsOpenAPIProtobuf(r.Header["Accept"])
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	data, err := h.OpenAPI.Document(name, protobuf)
	if err != nil {
		h.fail(w, r, fmt.Errorf("read OpenAPI document %s: %w", name, err))
		return
	}
	contentType := typeJSON
	if protobuf {
		contentType = openAPIProtobuf
	}
	b := takeBuffer()
	defer giveBuffer(b)
	b.Write(data)
	w.Header().Set("Content-Type", contentType)
	cached := w.Header()["Cache-Control"]
	if cached == nil {
		cached = noCache
	}
	writeCached(w, r, http.StatusOK, b, cached)
}

// wantsOpenAPIProtobuf chooses between the two forms of a document.
func wantsOpenAPIProtobuf(accept []string) (protobuf, ok bool) {
	if len(accept) == 0 {
		return false, true
	}
	for _, c := range clauses(strings.Join(accept, ",")) {
		switch c.kind + "/" + c.subtype {
		case "*/*", "application/*", typeJSON:
			return false, true
		case openAPIProtobuf, openAPIOldProtobuf:
			return true, true
		}
	}
	return false, false
}
