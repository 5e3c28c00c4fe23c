package rest

import (
	"bytes"
	"encoding/hex"
	stderrors "errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
)

// decoders read bodies. JSON and YAML are always read strictly: what that
// finds is an error, a warning, or ignored, as the request wants it.
type decoders struct {
	json, yaml, protobuf runtime.Decoder
}

func newDecoders(scheme *runtime.Scheme) decoders {
	text := func(yaml bool) runtime.Decoder {
		return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme,
			json.SerializerOptions{Strict: true, Yaml: yaml})
	}
	return decoders{json: once{text(false)}, yaml: text(true), protobuf: protobuf.NewSerializer(scheme, scheme)}
}

// forRequest chooses by Content-Type; none means JSON, as with upstream.
func (d *decoders) forRequest(r *http.Request) (runtime.Decoder, error) {
	contentType := r.Header.Get("Content-Type")
	if contentType == "" || contentType == typeJSON {
		return d.json, nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, unsupportedMedia(acceptedTypes)
	}
	switch mediaType {
	case typeJSON:
		return d.json, nil
	case typeYAML:
		return d.yaml, nil
	case typeProtobuf:
		return d.protobuf, nil
	}
	return nil, unsupportedMedia(acceptedTypes)
}

// mediaOf is what a decoder reads.
func (d *decoders) mediaOf(decoder runtime.Decoder) media {
	switch decoder {
	case d.yaml:
		return mediaYAML
	case d.protobuf:
		return mediaProtobuf
	}
	return mediaJSON
}

// A body up to smallBody is read as it comes. A larger one waits until there is room
// for it, and then must go on: bodyPatience for each part of bodyPart.
const (
	smallBody    = 16 << 10
	bodyPart     = 256 << 10
	bodyPatience = 10 * time.Second
)

// readBody reads the whole body, up to the limit. What it takes counts until the
// request ends.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBodyBytes {
		return nil, tooLarge()
	}
	body := http.MaxBytesReader(w, r.Body, maxBodyBytes)
	defer func() { _ = body.Close() }()
	data, err := h.readAll(w, r, body)
	var limit *http.MaxBytesError
	if stderrors.As(err, &limit) {
		return nil, tooLarge()
	}
	var status *errors.StatusError
	if err != nil && !stderrors.As(err, &status) {
		return nil, errors.NewBadRequest(fmt.Sprintf("read request body: %v", err))
	}
	return data, err
}

func (h *Handler) readAll(w http.ResponseWriter, r *http.Request, body io.Reader) ([]byte, error) {
	size := r.ContentLength
	if size < 0 {
		size = maxBodyBytes
	}
	data, err := h.readPart(w, r, body, nil, min(size, smallBody))
	if err != nil || int64(len(data)) == r.ContentLength || int64(len(data)) < smallBody {
		return data, err
	}
	give, err := h.bodies.take(r.Context(), size)
	if err != nil {
		return nil, err
	}
	hold(w, give)
	control := http.NewResponseController(w)
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	if r.ContentLength > 0 {
		data = append(make([]byte, 0, size), data...)
	}
	for {
		_ = control.SetReadDeadline(time.Now().Add(bodyPatience)) // as good as the connection allows
		before := len(data)
		part := int64(bodyPart)
		if r.ContentLength > 0 {
			part = min(part, size-int64(before))
		}
		data, err = h.readPart(w, r, body, data, part)
		if err != nil || int64(len(data)) == r.ContentLength || int64(len(data)-before) < part {
			return data, err
		}
	}
}

// readPart appends the next part of a body. Less of it than that is the end of one
// whose length was not announced.
func (h *Handler) readPart(w http.ResponseWriter, r *http.Request, body io.Reader, data []byte, part int64) ([]byte, error) {
	if part == 0 {
		return data, nil
	}
	defer h.patience.forBody(w)()
	if r.ContentLength < 0 {
		b := bytes.NewBuffer(data)
		_, err := b.ReadFrom(io.LimitReader(body, part))
		return b.Bytes(), err
	}
	data = slices.Grow(data, int(part))
	n, err := io.ReadFull(body, data[len(data):len(data)+int(part)])
	return data[:len(data)+n], err
}

// ponder waits until there is room for what decoding a body takes, and a core for a
// large one: half of them stay with requests that are quick.
func (h *Handler) ponder(w http.ResponseWriter, r *http.Request, data []byte, m media) error {
	if weightOfByte*len(data) > heavyBody {
		give, err := h.cores.take(r.Context(), 1)
		if err != nil {
			return err
		}
		hold(w, give)
	}
	weight := weigh(data, m)
	if weight == 0 {
		return nil
	}
	if weight > h.decodings.bytes {
		return tooHeavy(weight, h.decodings.bytes)
	}
	give, err := h.decodings.take(r.Context(), weight)
	if err == nil {
		hold(w, give)
	}
	return err
}

func tooLarge() error {
	return errors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBodyBytes))
}

// decode reads a body into an object, whose kind the body may leave out.
// fieldValidation decides what unknown and duplicate fields lead to.
func (h *Handler) decode(w http.ResponseWriter, r *http.Request, into runtime.Object, gvk schema.GroupVersionKind, fieldValidation string) error {
	decoder, err := h.decoders.forRequest(r)
	if err != nil {
		return err
	}
	data, err := h.readBody(w, r)
	if err == nil {
		err = h.ponder(w, r, data, h.decoders.mediaOf(decoder))
	}
	if err != nil {
		return err
	}
	return decodeInto(w, decoder, data, into, gvk, fieldValidation)
}

// decodeInto is decode for bytes that have been read.
func decodeInto(w http.ResponseWriter, decoder runtime.Decoder, data []byte, into runtime.Object, gvk schema.GroupVersionKind, fieldValidation string) error {
	obj, actual, err := decoder.Decode(data, &gvk, into)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	if err != nil && (!isStrict || obj == nil) {
		return undecodable(err, actual, gvk, data)
	}
	if obj != into && api.InternalName(*actual) != api.InternalName(gvk) {
		err := fmt.Errorf("converting (%s) to (%s): unknown conversion", reflect.TypeOf(obj).Elem(), api.InternalName(gvk))
		return undecodable(err, actual, gvk, data)
	}
	switch {
	case err == nil || fieldValidation == metav1.FieldValidationIgnore:
	case fieldValidation == metav1.FieldValidationStrict:
		return undecodable(err, actual, gvk, data)
	default:
		addWarnings(w, strict.Errors())
	}
	if obj != into {
		return errors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), gvk.GroupVersion()))
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return nil
}

// undecodable is upstream's answer to a body that cannot be read.
func undecodable(err error, actual *schema.GroupVersionKind, want schema.GroupVersionKind, body []byte) error {
	if actual != nil && actual.Kind != "" {
		return errors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v",
			actual.Kind, actual.Version, want.Kind, err))
	}
	return errors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)",
		want.Kind, err, summarize(body)))
}

// summarize shows the beginning of a body: what is not JSON in hexadecimal.
func summarize(body []byte) string {
	const excerpt = 30
	if len(body) == 0 {
		return "<empty>"
	}
	rest := ""
	if len(body) > excerpt {
		body, rest = body[:excerpt], " ..."
	}
	if body[0] == '{' {
		return string(body) + rest
	}
	return hex.EncodeToString(body) + rest
}

// readPatchBody reads a patch, and waits until there is room for applying it.
func (h *Handler) readPatchBody(w http.ResponseWriter, q *request, patch types.PatchType) ([]byte, error) {
	data, err := h.readBody(w, q.Request)
	if err != nil {
		return nil, err
	}
	format := mediaJSON
	switch patch {
	case types.JSONPatchType:
		if n := countOperations(data); n > maxJSONPatch {
			return nil, errors.NewRequestEntityTooLargeError(fmt.Sprintf(
				"The allowed maximum operations in a JSON patch is %d, got %d", maxJSONPatch, n))
		}
	case types.ApplyYAMLPatchType:
		format = mediaYAML
	}
	return data, h.ponder(w, q.Request, data, format)
}
