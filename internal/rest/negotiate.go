package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The media types of bodies.
const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"

	acceptedTypes = typeJSON + ", " + typeYAML + ", " + typeProtobuf
	streamTypes   = typeJSON + ";stream=watch, " + typeProtobuf + ";stream=watch"
)

// media is how an answer is encoded.
type media uint8

const (
	mediaJSON media = iota
	mediaYAML
	mediaProtobuf
)

// view is what an answer shows of objects.
type view uint8

const (
	viewObject view = iota
	viewTable
	viewPartial     // PartialObjectMetadata
	viewPartialList // the same, asked for by its list's name
)

// form is the shape in which a client wants an answer.
type form struct {
	media  media
	view   view
	v1beta bool // meta.k8s.io/v1beta1 instead of v1, for views
	pretty bool
}

// contentType returns the Content-Type of an answer in the form.
func (f form) contentType(stream bool) string {
	switch f.media {
	case mediaYAML:
		return typeYAML
	case mediaProtobuf:
		if stream {
			return typeProtobuf + ";stream=watch"
		}
		return typeProtobuf
	}
	return typeJSON
}

// groupVersion returns the apiVersion of Tables and partial objects.
func (f form) groupVersion() string {
	if f.v1beta {
		return "meta.k8s.io/v1beta1"
	}
	return "meta.k8s.io/v1"
}

// accepts remembers what Accept headers mean: there are a handful of them in a
// cluster, and each is parsed once.
type accepts struct {
	known sync.Map // string → form
	size  atomic.Int32
}

// maxAccepts and maxAcceptBytes bound what a client with ever new headers, who
// need not be logged in, can make us keep.
const (
	maxAccepts     = 256
	maxAcceptBytes = 512
)

// negotiate chooses the form of an answer. views tells whether tables and
// partial objects can be had.
func (h *Handler) negotiate(r *http.Request, views, stream bool) (form, error) {
	header := r.Header["Accept"]
	if len(header) == 0 || header[0] == "" {
		return withPretty(r, form{}), nil
	}
	accept := header[0] // alone, as upstream
	key := accept
	if !views {
		key += "\x00v"
	}
	if stream {
		key += "\x00s"
	}
	if known, ok := h.accepts.known.Load(key); ok {
		return withPretty(r, known.(form)), nil
	}
	f, ok := parseAccept(accept, views, stream)
	if !ok && stream {
		if _, ok := parseAccept(accept, views, false); ok {
			return form{}, acceptedOnly(streamTypes)
		}
	}
	if !ok {
		return form{}, notAcceptable()
	}
	if len(key) <= maxAcceptBytes && h.accepts.size.Add(1) <= maxAccepts {
		h.accepts.known.Store(key, f)
	}
	return withPretty(r, f), nil
}

// withPretty applies ?pretty, and upstream's kindness to browsers and curl.
func withPretty(r *http.Request, f form) form {
	if f.media != mediaJSON {
		return f
	}
	if r.URL.RawQuery != "" && strings.Contains(r.URL.RawQuery, "pretty") {
		if values, ok := r.URL.Query()["pretty"]; ok {
			f.pretty, _ = strconv.ParseBool(values[0])
			return f
		}
	}
	agent := r.Header.Get("User-Agent")
	if strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0") {
		f.pretty = true
	}
	return f
}

// notAcceptable is upstream's answer when no accepted type can be served.
func notAcceptable() error { return acceptedOnly(acceptedTypes) }

func acceptedOnly(types string) error {
	return unlikeAsked("only the following media types are accepted: " + types)
}

// unlikeAsked is the answer to who asks for a form that there is not.
func unlikeAsked(message string) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: message,
	}}
}

// unsupportedMedia is upstream's answer to a body in a type it does not know.
func unsupportedMedia(accepted string) error {
	return &errors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s", accepted),
	}}
}

// clause is one alternative of an Accept header.
type clause struct {
	kind, subtype string
	params        []string // "key=value"
	quality       float64
}

// parseAccept finds the first clause, by quality and order, that can be served.
func parseAccept(header string, views, stream bool) (form, bool) {
	for _, c := range clauses(header) {
		if f, ok := c.form(views, stream); ok {
			return f, true
		}
	}
	return form{}, false
}

// clauses splits an Accept header, in the order in which upstream tries the
// clauses: best quality first, as long as no clause with a star comes before one
// without.
func clauses(header string) []clause {
	var all []clause
	for part := range strings.SplitSeq(header, ",") {
		fields := strings.Split(part, ";")
		c := clause{quality: 1}
		c.kind, c.subtype, _ = strings.Cut(strings.Trim(fields[0], " "), "/")
		switch {
		case c.kind == "*" && c.subtype == "":
			c.subtype = "*"
		case c.subtype == "" || strings.Contains(c.subtype, "/"):
			continue
		}
		for _, p := range fields[1:] {
			key, value, ok := strings.Cut(p, "=")
			switch key = strings.Trim(key, " "); {
			case !ok || value == "" || strings.Contains(value, "="):
			case key == "q":
				c.quality, _ = strconv.ParseFloat(value, 32)
			default:
				c.params = append(c.params, key+"="+strings.Trim(value, " "))
			}
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b clause) int {
		if a.quality > b.quality || a.kind != "*" && b.kind == "*" || a.subtype != "*" && b.subtype == "*" {
			return -1
		}
		return 1 // also of itself: insertion alone makes the order, as upstream's does
	})
	return all
}

// form returns what the clause asks for; ok is false when it cannot be had.
func (c clause) form(views, stream bool) (f form, ok bool) {
	switch {
	case c.kind == "*" && c.subtype == "*", c.kind == "application" && (c.subtype == "*" || c.subtype == "json"):
	case c.kind == "application" && c.subtype == "yaml" && !stream:
		f.media = mediaYAML
	case c.kind == "application" && c.subtype == "vnd.kubernetes.protobuf":
		f.media = mediaProtobuf
	default:
		return f, false
	}
	var as, group, version string
	for _, p := range c.params {
		key, value, _ := strings.Cut(p, "=")
		switch key {
		case "as":
			as = value
		case "g":
			group = value
		case "v":
			version = value
		case "pretty":
			f.pretty = value == "1"
		case "stream":
			if value != "watch" || f.media == mediaYAML {
				return f, false
			}
		case "sv":
			if !views || value != "v1" {
				return f, false
			}
		}
	}
	if as == "" && group == "" && version == "" {
		return f, true
	}
	return f, views && f.setView(as, group, version)
}

// setView applies as=…;g=…;v=… and reports whether there is such a view.
func (f *form) setView(as, group, version string) bool {
	if group != metav1.GroupName || version != "v1" && version != "v1beta1" {
		return false
	}
	f.v1beta = version == "v1beta1"
	switch as {
	case "Table":
		f.view = viewTable
		return f.media != mediaProtobuf // Tables have no protobuf
	case "PartialObjectMetadata":
		f.view = viewPartial
	case "PartialObjectMetadataList":
		f.view = viewPartialList
	default:
		return false
	}
	return true
}
