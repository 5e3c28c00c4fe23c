package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/discovery"
	restclient "k8s.io/client-go/rest"
	"k8s.io/kube-openapi/pkg/util/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// What reads the document of version 2 finds in it every kind that is served, and
// can explain its fields.
func TestSwaggerModels(t *testing.T) {
	p := start(t, nil)
	client := must(discovery.NewDiscoveryClientForConfig(p.admin()))(t)
	models := must(proto.NewOpenAPIData(must(client.OpenAPISchema())(t)))(t)
	byKind := map[string]proto.Schema{}
	for _, name := range models.ListModels() {
		model := models.LookupModel(name)
		kinds, _ := model.GetExtensions()["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			gvk := map[string]any{}
			for key, value := range k.(map[any]any) {
				gvk[key.(string)] = value
			}
			byKind[strings.TrimPrefix(gvk["group"].(string)+"/"+gvk["version"].(string), "/")+" "+gvk["kind"].(string)] = model
		}
	}
	for _, list := range must(client.ServerPreferredResources())(t) {
		for _, r := range list.APIResources {
			if byKind[list.GroupVersion+" "+r.Kind] == nil {
				t.Errorf("no model of %s in %s", r.Kind, list.GroupVersion)
			}
		}
	}
	for kind, path := range map[string]string{
		"v1 Pod":             "spec containers resources limits",
		"v1 Service":         "spec ports targetPort",
		"apps/v1 Deployment": "spec template spec tolerations effect",
	} {
		field := byKind[kind]
		for _, name := range strings.Fields(path) {
			if field = below(field, name); field == nil {
				t.Fatalf("%s has no %s in %s", kind, name, path)
			}
		}
		if field.GetDescription() == "" {
			t.Errorf("nothing is said about %s of %s", path, kind)
		}
	}
}

// below returns a field of a schema, whatever the schema is wrapped in.
func below(s proto.Schema, name string) proto.Schema {
	switch s := s.(type) {
	case proto.Reference:
		return below(s.SubSchema(), name)
	case *proto.Array:
		return below(s.SubType, name)
	case *proto.Kind:
		return s.Fields[name]
	}
	return nil
}

// The document of version 2 comes in the forms that clients ask for, small on the
// wire, and once only to those who keep it.
func TestSwaggerForms(t *testing.T) {
	p := start(t, nil)
	code, body, header := call(t, p.admin(), "GET", "/openapi/v2", "", nil)
	var document spec.Swagger
	if err := json.Unmarshal([]byte(body), &document); err != nil || code != 200 {
		t.Fatalf("%d %v", code, err)
	}
	list := document.Paths.Paths["/api/v1/namespaces/{namespace}/pods"]
	if document.Swagger != "2.0" || list.Get == nil || list.Get.ID != "listCoreV1NamespacedPod" {
		t.Errorf("version %q, pods: %+v", document.Swagger, list.Get)
	}
	for _, name := range []string{"@v1.0+protobuf", ".v1.0+protobuf"} {
		accept := "application/com.github.proto-openapi.spec.v2" + name
		code, small, header := call(t, p.admin(), "GET", "/openapi/v2", "", map[string]string{"Accept": accept})
		if want := "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"; code != 200 || header["Content-Type"][0] != want || small == body {
			t.Errorf("%s: %d %q", accept, code, header["Content-Type"])
		}
	}
	code, _, _ = call(t, p.admin(), "GET", "/openapi/v2", "", map[string]string{"If-None-Match": header["Etag"][0]})
	if code != 304 {
		t.Errorf("with its ETag: %d", code)
	}
	if code, _, _ = call(t, p.admin(), "GET", "/openapi/v2", "", map[string]string{"Accept": "image/png"}); code != 406 {
		t.Errorf("as a picture: %d", code)
	}
	client := must(restclient.HTTPClientFor(p.admin()))(t)
	r := must(http.NewRequestWithContext(t.Context(), "GET", p.admin().Host+"/openapi/v2", nil))(t)
	r.Header.Set("Accept-Encoding", "gzip")
	response := must(client.Do(r))(t)
	defer response.Body.Close()
	packed := must(io.ReadAll(response.Body))(t)
	if response.Header.Get("Content-Encoding") != "gzip" || len(packed)*4 > len(body) {
		t.Errorf("%q, %d bytes of %d", response.Header.Get("Content-Encoding"), len(packed), len(body))
	}
}
