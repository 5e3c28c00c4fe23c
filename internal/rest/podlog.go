package rest

import (
	stderrors "errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxNodeError bounds what is read of a node's error text.
const maxNodeError = 50_000

// podLog serves pods/log from the node that keeps the log.
func (h *Handler) podLog(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodGet {
		return methodNotAllowed()
	}
	options, err := parseLogOptions(q.query)
	if err != nil {
		return err
	}
	if errs := validateLogOptions(options); len(errs) > 0 {
		return errors.NewInvalid(schema.GroupKind{Kind: "PodLogOptions"}, q.name, errs)
	}
	pod, err := h.pod(q.Context(), q)
	if err != nil {
		return err
	}
	container, err := containerOf(pod, options.Container)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" {
		w.Header()["Cache-Control"] = noCache
		w.WriteHeader(http.StatusNoContent) // nothing has run, so nothing was said
		return nil
	}
	if err := h.hasNode(q, pod); err != nil {
		return err
	}
	if h.Nodes == nil {
		return errNoNodes()
	}
	location := &url.URL{
		Scheme: "https", Host: pod.Spec.NodeName + ":10250",
		Path:     "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + container,
		RawQuery: logQuery(options).Encode(),
	}
	return h.copyLog(w, q, location)
}

// copyLog streams a node's answer to the client, each piece as it comes.
func (h *Handler) copyLog(w http.ResponseWriter, q *request, location *url.URL) error {
	ctx, done := h.longRunning(q.Context(), w, maxStream)
	defer done()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return err
	}
	answer, err := h.proxy.transport.RoundTrip(ask)
	if err != nil {
		return fmt.Errorf("Get %q: %w", location, err) //nolint:staticcheck // net/http's form, which clients know
	}
	defer func() { _ = answer.Body.Close() }()
	if err := nodeError(answer, q); err != nil {
		return err
	}
	if websocket.IsWebSocketUpgrade(q.Request) {
		sendLog(w, q, answer.Body)
		return nil
	}
	w.Header()["Cache-Control"] = noCache
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return nil
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return nil // the client went away
			}
			_ = flush.Flush()
		}
		if stderrors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			panic(http.ErrAbortHandler) // the client must see that the log is cut short
		}
	}
}

// nodeError turns a node's refusal into upstream's error.
func nodeError(answer *http.Response, q *request) error {
	if answer.StatusCode >= http.StatusOK && answer.StatusCode <= http.StatusPartialContent {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxNodeError))
	if err != nil {
		return errors.NewInternalError(err)
	}
	text := string(data)
	switch answer.StatusCode {
	case http.StatusInternalServerError:
		return errors.NewInternalError(stderrors.New(text))
	case http.StatusBadRequest:
		return errors.NewBadRequest(text)
	}
	resource := schema.GroupResource{Resource: q.resource + "/" + q.subresource}
	return errors.NewGenericServerResponse(answer.StatusCode, "", resource, q.name, text, 0, false)
}

// parseLogOptions reads PodLogOptions from a query.
func parseLogOptions(query url.Values) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{
		Container:  query.Get("container"),
		Follow:     queryBool(query, "follow"),
		Previous:   queryBool(query, "previous"),
		Timestamps: queryBool(query, "timestamps"),
	}
	for _, read := range []error{ // the first is told of
		readNumber(query, "sinceSeconds", &o.SinceSeconds), readTime(query, "sinceTime", &o.SinceTime),
		readNumber(query, "tailLines", &o.TailLines), readNumber(query, "limitBytes", &o.LimitBytes),
	} {
		if read != nil {
			return nil, errors.NewBadRequest(read.Error())
		}
	}
	if stream := query.Get("stream"); query.Has("stream") {
		o.Stream = &stream
	}
	return o, nil
}

// readNumber reads a number, if there is one.
func readNumber(query url.Values, name string, into **int64) error {
	if !query.Has(name) {
		return nil
	}
	n, err := strconv.ParseInt(query.Get(name), 10, 64)
	*into = &n
	return err
}

// readTime reads a time, if there is one.
func readTime(query url.Values, name string, into **metav1.Time) error {
	if !query.Has(name) {
		return nil
	}
	*into = &metav1.Time{}
	return (*into).UnmarshalQueryParameter(query.Get(name))
}

// validateLogOptions returns upstream's field errors.
func validateLogOptions(o *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if o.Stream != nil { // known to 1.36, but off: PodLogsQuerySplitStreams is alpha
		errs = append(errs, field.Forbidden(field.NewPath("stream"), "may not be specified"))
	}
	return errs
}

// logQuery writes the options as the node reads them.
func logQuery(o *corev1.PodLogOptions) url.Values {
	query := url.Values{}
	for name, set := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if set {
			query.Set(name, "true")
		}
	}
	for name, n := range map[string]*int64{"sinceSeconds": o.SinceSeconds, "tailLines": o.TailLines, "limitBytes": o.LimitBytes} {
		if n != nil {
			query.Set(name, strconv.FormatInt(*n, 10))
		}
	}
	if o.SinceTime != nil {
		query.Set("sinceTime", o.SinceTime.UTC().Format(time.RFC3339))
	}
	return query
}
