package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// What goes over the wire: Kubernetes' protobuf, an object behind the magic
// number, and a watch as events each behind its length in four bytes.
const (
	mediaProtobuf = runtime.ContentTypeProtobuf
	watchProtobuf = mediaProtobuf + ";stream=watch"
	magic         = "k8s\x00"
	// maxFrame bounds one event: far more than any server stores.
	maxFrame = 64 << 20
)

// question is what a watch asks: path and selectors.
type question string

func questionOf(r *http.Request) question {
	query, kept := r.URL.Query(), url.Values{}
	for _, key := range []string{"fieldSelector", "labelSelector"} {
		if v := query.Get(key); v != "" {
			kept.Set(key, v)
		}
	}
	return question(r.URL.Path + "?" + kept.Encode())
}

// isWatch says whether the request is a watch whose answer can be remembered.
func isWatch(r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.Contains(r.Header.Get("Accept"), mediaProtobuf) {
		return false
	}
	on := r.URL.Query().Get("watch")
	return on == "true" || on == "1"
}

// wantsInitial says whether a watch is to begin with all there is.
func wantsInitial(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") == "true" }

func wantsBookmarks(r *http.Request) bool { return r.URL.Query().Get("allowWatchBookmarks") == "true" }

// frames cuts a stream into what is behind each length.
type frames struct{ pending []byte }

var errFrame = errors.New("the stream is not one of events")

// feed takes what has come and gives every event that is whole.
func (f *frames) feed(p []byte, each func([]byte) error) error {
	f.pending = append(f.pending, p...)
	for len(f.pending) >= 4 {
		n := int64(binary.BigEndian.Uint32(f.pending))
		if n > maxFrame {
			return errFrame
		}
		if int64(len(f.pending)) < 4+n {
			return nil
		}
		if err := each(f.pending[4 : 4+n]); err != nil {
			return err
		}
		f.pending = f.pending[4+n:]
	}
	if len(f.pending) == 0 {
		f.pending = nil // a watch is idle most of the time
	}
	return nil
}

// decodeEvent reads an event.
func decodeEvent(frame []byte) (watch.EventType, runtime.Unknown, error) {
	var e metav1.WatchEvent
	if err := e.Unmarshal(frame); err != nil {
		return "", runtime.Unknown{}, fmt.Errorf("read event: %w", err)
	}
	object, err := decodeObject(e.Object.Raw)
	return watch.EventType(e.Type), object, err
}

// appendEvent writes an event.
func appendEvent(to []byte, kind watch.EventType, object runtime.Unknown) ([]byte, error) {
	raw, err := encodeObject(object)
	if err != nil {
		return to, err
	}
	e := metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}
	frame, err := e.Marshal()
	if err != nil {
		return to, fmt.Errorf("write event: %w", err)
	}
	to = binary.BigEndian.AppendUint32(to, uint32(len(frame)))
	return append(to, frame...), nil
}

// decodeObject reads what says its kind and holds the object.
func decodeObject(wire []byte) (runtime.Unknown, error) {
	var u runtime.Unknown
	body, ok := bytes.CutPrefix(wire, []byte(magic))
	if !ok {
		return u, errors.New("read object: it is not in protobuf")
	}
	if err := u.Unmarshal(body); err != nil {
		return u, fmt.Errorf("read object: %w", err)
	}
	return u, nil
}

func encodeObject(u runtime.Unknown) ([]byte, error) {
	body, err := u.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write object: %w", err)
	}
	return append([]byte(magic), body...), nil
}
