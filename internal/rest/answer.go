package rest

import (
	"context"
	stderrors "errors"
	"net/http"
	"runtime/debug"
	"strconv"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/auth"
)

var statusGVK = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// statusOf returns the Status that tells a client about an error. Every error
// is an APIStatus already, or a bug that the log shows as it is.
func statusOf(err error) metav1.Status {
	var known errors.APIStatus
	switch {
	case stderrors.As(err, &known):
		status := known.Status()
		if status.Code == 0 {
			status.Code = http.StatusInternalServerError
		}
		return status
	case stderrors.Is(err, context.DeadlineExceeded):
		return errors.NewTimeoutError("request did not complete within the allotted timeout", 0).Status()
	}
	return metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Reason: metav1.StatusReasonUnknown, Message: err.Error(),
	}
}

// fail answers with the error's Status.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status.Code == http.StatusInternalServerError && !clientsFault(err) && r.Context().Err() == nil {
		h.Log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(err))
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	f, negotiated := h.negotiate(r, false, false)
	if negotiated != nil {
		f = form{pretty: true}
	}
	writeStatus(w, r, f, status)
}

// clientsFault tells the 500s without a reason, upstream's answer to some of what a
// client can get wrong: who asks for them must not fill the log.
func clientsFault(err error) bool {
	var known errors.APIStatus
	return stderrors.As(err, &known) && known.Status().Reason == metav1.StatusReasonUnknown
}

// unauthorized answers who cannot be told by what it showed, as upstream's server
// does; a Refusal is told, for it gives nothing away.
func (h *Handler) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	h.Log.Debug("credentials refused", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.String("from", r.RemoteAddr), zap.Error(err))
	message := "Unauthorized"
	var refusal auth.Refusal
	if stderrors.As(err, &refusal) {
		message = refusal.Error()
	}
	h.fail(w, r, errors.NewUnauthorized(message))
}

// writeStatus answers with a Status in the form's media type.
func writeStatus(w http.ResponseWriter, r *http.Request, f form, status metav1.Status) {
	b := takeBuffer()
	defer giveBuffer(b)
	err := appendAny(b, &status, statusGVK, f.media)
	if err == nil {
		err = finish(b, f)
	}
	if err != nil {
		http.Error(w, status.Message, int(status.Code))
		return
	}
	write(w, r, int(status.Code), f, b)
}

// success is the Status of a request that leaves nothing to show.
func success(code int) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Code: int32(code)}
}

// recovered turns a panic in one request into its failure: the others go on.
func (h *Handler) recovered(w http.ResponseWriter, r *http.Request) {
	value := recover()
	if value == nil {
		return
	}
	if value == http.ErrAbortHandler {
		panic(value) // net/http's own way to end a connection
	}
	stack := debug.Stack()
	h.panics.Add(1)
	h.Log.Error("request panicked", zap.String("method", r.Method), zap.String("path", r.URL.Path),
		zap.Any("panic", value), zap.ByteString("stack", stack))
	if h.Panicked != nil {
		h.Panicked(value, stack)
	}
	if s, ok := w.(*statusWriter); ok && s.wrote {
		panic(http.ErrAbortHandler) // the client must see that the answer is cut short
	}
	status := errors.NewInternalError(stderrors.New("This request caused apiserver to panic. Look in the logs for details."))
	writeStatus(w, r, form{}, status.Status())
}

// statusWriter remembers whether an answer has begun, and what its request holds.
type statusWriter struct {
	http.ResponseWriter
	h     *Handler
	wrote bool
	held  []func()

	warnings warnings
}

// hold has something given back when the request ends.
func (s *statusWriter) hold(give func()) { s.held = append(s.held, give) }

// release gives back what the request holds.
func (s *statusWriter) release() {
	for _, give := range s.held {
		give()
	}
	s.held = nil
}

func (s *statusWriter) WriteHeader(code int) {
	s.wrote = true
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusWriter) Write(data []byte) (int, error) {
	s.wrote = true
	return s.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
