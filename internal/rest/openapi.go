package rest

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// OpenAPI is where the OpenAPI documents are. Names are their paths below
// /openapi: "v2", "v3/api/v1", "v3/apis/apps/v1".
type OpenAPI interface {
	// Names lists the documents; none: they were left out of the build.
	Names() []string
	// Hash identifies a document's content.
	Hash(name string) string
	// Document returns it as JSON, or as protobuf of gnostic's messages.
	Document(name string, protobuf bool) ([]byte, error)
}

const (
	// openAPIProtobuf begins the media types of documents as protobuf: a version
	// follows, and openAPIEnding.
	openAPIProtobuf = "application/com.github.proto-openapi.spec."
	openAPIEnding   = ".v1.0+protobuf"
	// openAPIOldEnding is what clients asked for before 1.27.
	openAPIOldEnding = "@v1.0+protobuf"

	// openAPIWeight is what a document takes in memory while it is put together and
	// sent, about.
	openAPIWeight = 4 << 20
)

// openAPIPaths returns the documents below /openapi and the index of version 3.
func (h *Handler) openAPIPaths() map[string]http.HandlerFunc {
	paths := map[string]http.HandlerFunc{"/openapi/v3": h.openAPIIndex}
	if h.OpenAPI == nil {
		return paths
	}
	for _, name := range h.OpenAPI.Names() {
		paths["/openapi/"+name] = func(w http.ResponseWriter, r *http.Request) { h.openAPIDocument(w, r, name) }
	}
	return paths
}

// openAPIIndex lists the documents with addresses that change when they do.
func (h *Handler) openAPIIndex(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		ServerRelativeURL string `json:"serverRelativeURL"`
	}
	index := struct {
		Paths map[string]entry `json:"paths"`
	}{map[string]entry{}}
	if h.OpenAPI != nil {
		for _, name := range h.OpenAPI.Names() {
			if below, ok := strings.CutPrefix(name, "v3/"); ok {
				index.Paths[below] = entry{h.openAPIAddress(name)}
			}
		}
	}
	if len(index.Paths) == 0 {
		http.Error(w, "404 this build carries no OpenAPI documents: run make and build again", http.StatusNotFound)
		return
	}
	data, err := json.Marshal(index)
	if err != nil {
		h.fail(w, r, fmt.Errorf("encode the index of OpenAPI documents: %w", err))
		return
	}
	if unchanged(w, r, fmt.Sprintf("%X", sha512.Sum512(data))) {
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	writeCached(w, r, http.StatusOK, bytes.NewBuffer(data), noCache)
}

// openAPIAddress is where a document is found as long as it stays what it is.
func (h *Handler) openAPIAddress(name string) string {
	return "/openapi/" + name + "?hash=" + url.QueryEscape(h.OpenAPI.Hash(name))
}

// openAPIDocument answers with one document. One of version 3 is cached for good by
// those who asked for it by its hash.
func (h *Handler) openAPIDocument(w http.ResponseWriter, r *http.Request, name string) {
	version, _, _ := strings.Cut(name, "/")
	w.Header().Set("Vary", "Accept")
	protobuf, ok := wantsOpenAPIProtobuf(r.Header.Get("Accept"), version)
	if !ok {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	hash, cache := h.OpenAPI.Hash(name), noCache
	if asked := r.URL.Query().Get("hash"); asked != "" && version == "v3" {
		if asked != hash {
			http.Redirect(w, r, h.openAPIAddress(name), http.StatusMovedPermanently)
			return
		}
		cache = []string{"public, immutable"}
		w.Header()["Cache-Control"] = cache
		w.Header().Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	if unchanged(w, r, hash) {
		return
	}
	give, err := h.answers.take(r.Context(), openAPIWeight)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	hold(w, give)
	data, err := h.OpenAPI.Document(name, protobuf)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	if protobuf {
		w.Header().Set("Content-Type", openAPIProtobuf+version+openAPIEnding)
	}
	writeCached(w, r, http.StatusOK, bytes.NewBuffer(data), cache)
}

// unchanged answers those who have a document of the hash already.
func unchanged(w http.ResponseWriter, r *http.Request, hash string) bool {
	tag := `"` + hash + `"`
	w.Header().Set("Etag", tag)
	for has := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if has = strings.TrimPrefix(strings.TrimSpace(has), "W/"); has == tag || has == "*" {
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// wantsOpenAPIProtobuf chooses between the two forms of a document: what the client
// likes best, JSON where it is the same to it.
func wantsOpenAPIProtobuf(accept, version string) (protobuf, ok bool) {
	if accept == "" {
		return false, true
	}
	for _, c := range clauses(accept) {
		switch c.kind + "/" + c.subtype {
		case "*/*", "application/*", "*/json", typeJSON:
			return false, true
		case openAPIProtobuf + version + openAPIEnding, openAPIProtobuf + version + openAPIOldEnding:
			return true, true
		}
	}
	return false, false
}
