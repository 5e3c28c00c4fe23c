package rest

import (
	"bytes"
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/utils/ptr"
)

// Clients call the options of a deletion their own group's, in any encoding.
func TestDeleteOptionsOfAnyGroup(t *testing.T) {
	h := newTestHandler(Config{})
	for _, version := range []schema.GroupVersion{{Version: "v1"}, {Group: "apps", Version: "v1"}, {Group: "meta.k8s.io", Version: "v1"}} {
		scheme := runtime.NewScheme()
		scheme.AddKnownTypes(version, &metav1.DeleteOptions{})
		for _, s := range serializer.NewCodecFactory(scheme).SupportedMediaTypes() {
			var body bytes.Buffer
			codec := serializer.NewCodecFactory(scheme).EncoderForVersion(s.Serializer, version)
			if err := codec.Encode(&metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(7))}, &body); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("DELETE", "/apis/apps/v1/namespaces/default/deployments/a", &body)
			r.Header.Set("Content-Type", s.MediaType)
			got, err := h.deleteOptions(httptest.NewRecorder(), &request{Request: r})
			if err != nil || got.GracePeriodSeconds == nil || *got.GracePeriodSeconds != 7 {
				t.Errorf("%s as %s: %+v, %v", version, s.MediaType, got, err)
			}
		}
	}
}

// Without a body, its type does not matter.
func TestDeleteOptionsWithoutBody(t *testing.T) {
	h := newTestHandler(Config{})
	r := httptest.NewRequest("DELETE", "/api/v1/namespaces/default/pods/a", nil)
	r.Header.Set("Content-Type", "text/plain")
	if _, err := h.deleteOptions(httptest.NewRecorder(), &request{Request: r}); err != nil {
		t.Error(err)
	}
}
