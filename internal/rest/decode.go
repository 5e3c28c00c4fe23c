package rest

import (
	stderrors "errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
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
	return decoders{json: text(false), yaml: text(true), protobuf: protobuf.NewSerializer(scheme, scheme)}
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

// readBody reads the whole body, up to the limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBodyBytes {
		return nil, errors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBodyBytes))
	}
	body := http.MaxBytesReader(w, r.Body, maxBodyBytes)
	defer func() { _ = body.Close() }()
	var data []byte
	var err error
	if n := r.ContentLength; n >= 0 {
		data = make([]byte, n)
		_, err = io.ReadFull(body, data)
	} else {
		data, err = io.ReadAll(body)
	}
	var tooLarge *http.MaxBytesError
	if stderrors.As(err, &tooLarge) {
		return nil, errors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBodyBytes))
	}
	if err != nil {
		return nil, errors.NewBadRequest(fmt.Sprintf("read request body: %v", err))
	}
	return data, nil
}

// decode reads a body into an object, whose kind the body may leave out.
// fieldValidation decides what unknown and duplicate fields lead to.
func (h *Handler) decode(w http.ResponseWriter, r *http.Request, into runtime.Object, gvk schema.GroupVersionKind, fieldValidation string) error {
	decoder, err := h.decoders.forRequest(r)
	if err != nil {
		return err
	}
	data, err := readBody(w, r)
	if err != nil {
		return err
	}
	return decodeInto(w, decoder, data, into, gvk, fieldValidation)
}

// decodeInto is decode for bytes that have been read.
func decodeInto(w http.ResponseWriter, decoder runtime.Decoder, data []byte, into runtime.Object, gvk schema.GroupVersionKind, fieldValidation string) error {
	obj, actual, err := decoder.Decode(data, &gvk, into)
	if err != nil {
		strict, isStrict := runtime.AsStrictDecodingError(err)
		switch {
		case !isStrict || obj == nil || fieldValidation == metav1.FieldValidationStrict:
			return undecodable(err, actual, gvk, data)
		case fieldValidation != metav1.FieldValidationIgnore:
			addWarnings(w, strict.Errors())
		}
	}
	if actual.GroupVersion() != gvk.GroupVersion() {
		return errors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			actual.GroupVersion(), gvk.GroupVersion()))
	}
	if obj != into {
		err := fmt.Errorf("converting (%T) to (%T): unknown conversion", obj, into)
		return undecodable(err, actual, gvk, data)
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
	const excerpt = 30
	summary := string(body)
	if len(body) > excerpt {
		summary = string(body[:excerpt]) + " ..."
	}
	return errors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)",
		want.Kind, err, summarize(summary, body)))
}

// summarize shows binary bodies in hexadecimal.
func summarize(text string, body []byte) string {
	printable := func(r rune) bool { return r >= 32 && r != 127 || r == '\n' || r == '\t' }
	if strings.IndexFunc(text, func(r rune) bool { return !printable(r) }) < 0 {
		return fmt.Sprintf("%q", text)
	}
	if len(body) > 30 {
		return fmt.Sprintf("hex: %x ...", body[:30])
	}
	return fmt.Sprintf("hex: %x", body)
}
