package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// route says, in the order and the words of upstream's router, why a request does
// not reach the resource whose path it has: by its timeout, by its method, by the
// type of its body, by the types of answers that it takes.
func (q *request) route() error {
	if _, err := parseTimeout(q.query.Get("timeout")); err != nil && q.verb != "watch" && !q.lasts() {
		return errors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
	}
	if !q.methodAllowed() {
		return methodNotAllowed()
	}
	if q.verb == "patch" && !slices.Contains(patchTypes, types.PatchType(mediaTypeOf(q.Header.Get("Content-Type")))) && !q.connects() {
		return notRouted(http.StatusUnsupportedMediaType, "415: Unsupported Media Type")
	}
	return acceptable(q.Request, q.produces())
}

// methodAllowed says whether there is such a verb for what the path names.
func (q *request) methodAllowed() bool {
	switch {
	case q.Method == http.MethodHead, q.Method == http.MethodOptions:
		return q.connects()
	case q.subresource != "":
		return slices.Contains(q.res.kind.Subresource(q.subresource).Verbs, q.verb)
	case !slices.Contains(verbsOf(q.res.kind), q.verb):
		return false
	}
	switch q.verb {
	case "create", "list", "deletecollection":
		return q.name == ""
	case "update", "patch", "delete", "get":
		return q.name != ""
	}
	return true
}

// connects says whether the request is for a connection to something else, which
// has its own types of bodies and answers.
func (q *request) connects() bool {
	switch q.subresource {
	case "proxy", "exec", "attach", "portforward":
		return true
	}
	return false
}

// What answers can be had, by what is asked.
var (
	oneTypes  = []string{typeJSON, typeYAML, typeProtobuf}
	listTypes = []string{typeJSON, typeYAML, typeProtobuf, typeJSON + ";stream=watch", typeProtobuf + ";stream=watch"}
	logTypes  = []string{"text/plain", typeJSON, typeYAML, typeProtobuf}
)

func (q *request) produces() []string {
	switch {
	case q.connects():
		return nil
	case q.subresource == "log":
		return logTypes
	case q.verb == "list" || q.verb == "watch":
		return listTypes
	}
	return oneTypes
}

// acceptable refuses who takes none of the types, nil being any.
func acceptable(r *http.Request, types []string) error {
	accept := r.Header.Get("Accept")
	if accept == "" || types == nil {
		return nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		if t := mediaTypeOf(part); t == "*/*" || slices.Contains(types, t) {
			return nil
		}
	}
	return notRouted(http.StatusNotAcceptable, "406: Not Acceptable\n\nAvailable representations: "+strings.Join(types, ", "))
}

// mediaTypeOf is a media type without its parameters.
func mediaTypeOf(text string) string {
	t, _, _ := strings.Cut(text, ";")
	return strings.Trim(t, " ")
}

func notRouted(code int, message string) error {
	return errors.NewGenericServerResponse(code, "", schema.GroupResource{}, "", message, 0, false)
}
