package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/openapi3"
	"k8s.io/client-go/restmapper"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

// golden compares text with a file in testdata, which -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it):\n%s\nwant\n%s", name, got, want)
	}
}

func indented(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(text), "", "  "); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return b.String()
}

const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

func TestDiscoveryDocuments(t *testing.T) {
	p := start(t, nil)
	for name, c := range map[string]struct{ path, accept string }{
		"api.json":            {"/api", "application/json"},
		"apis.json":           {"/apis", "application/json"},
		"api-v1.json":         {"/api/v1", "application/json"},
		"apis-apps.json":      {"/apis/apps", "application/json"},
		"apis-apps-v1.json":   {"/apis/apps/v1", "application/json"},
		"api-aggregated.json": {"/api", aggregated + ",application/json"},
		"aggregated.json":     {"/apis", aggregated + ",application/json"},
	} {
		code, body, header := call(t, p.admin(), "GET", c.path, "", map[string]string{"Accept": c.accept})
		if code != 200 {
			t.Fatalf("%s: %d %s", c.path, code, body)
		}
		if name == "api.json" {
			body = string(bytes.ReplaceAll([]byte(body), []byte(p.address), []byte("ADDRESS")))
		}
		golden(t, name, indented(t, body))
		if tag := header["Etag"]; c.accept != "application/json" {
			code, _, _ := call(t, p.admin(), "GET", c.path, "", map[string]string{"Accept": c.accept, "If-None-Match": tag[0]})
			if code != 304 {
				t.Errorf("%s with the ETag it gave: %d", c.path, code)
			}
		}
	}
}

// client-go finds its way, with aggregated documents and without.
func TestClientsDiscover(t *testing.T) {
	p := start(t, nil)
	for _, legacy := range []bool{false, true} {
		client := must(discovery.NewDiscoveryClientForConfig(p.admin()))(t)
		client.UseLegacyDiscovery = legacy
		groups := must(restmapper.GetAPIGroupResources(client))(t)
		mapper := restmapper.NewShortcutExpander(restmapper.NewDiscoveryRESTMapper(groups), client, nil)
		for word, want := range map[string]schema.GroupVersionKind{
			"deploy": {Group: "apps", Version: "v1", Kind: "Deployment"}, "po": {Version: "v1", Kind: "Pod"},
			"service": {Version: "v1", Kind: "Service"}, "leases": {Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"},
		} {
			got, err := mapper.KindFor(schema.GroupVersionResource{Resource: word})
			if err != nil || got != want {
				t.Errorf("legacy %v: %s is %v (%v)", legacy, word, got, err)
			}
		}
	}
	info := must(must(discovery.NewDiscoveryClientForConfig(p.admin()))(t).ServerVersion())(t)
	if info.GitVersion != "v1.36.3+skiff1" || info.Minor != "36" {
		t.Errorf("version %+v", info)
	}
}

// What kubectl asks the documents for: every kind's schema, and that PATCH
// takes fieldValidation.
func TestOpenAPI(t *testing.T) {
	p := start(t, nil)
	if len(must(os.ReadDir("../../embed/openapi/data"))(t)) < 2 {
		t.Fatal("the OpenAPI documents have not been built: run scripts/openapi.sh (make does)")
	}
	client := must(discovery.NewDiscoveryClientForConfig(p.admin()))(t)
	root := openapi3.NewRoot(client.OpenAPIV3())
	gvs := must(root.GroupVersions())(t)
	lists := must(client.ServerPreferredResources())(t)
	if len(gvs) < len(lists) {
		t.Errorf("%d documents for %d group-versions", len(gvs), len(lists))
	}
	for _, list := range lists {
		gv := must(schema.ParseGroupVersion(list.GroupVersion))(t)
		spec := must(root.GVSpec(gv))(t)
		known := map[string]bool{}
		for _, s := range spec.Components.Schemas {
			kinds, _ := s.Extensions["x-kubernetes-group-version-kind"].([]any)
			for _, k := range kinds {
				known[k.(map[string]any)["kind"].(string)] = true
			}
		}
		patches := map[string]bool{}
		for _, path := range spec.Paths.Paths {
			if path.Patch == nil {
				continue
			}
			var gvk struct{ Kind string }
			if err := path.Patch.Extensions.GetObject("x-kubernetes-group-version-kind", &gvk); err != nil {
				t.Fatal(err)
			}
			for _, parameter := range path.Patch.Parameters {
				if parameter.Name == "fieldValidation" && parameter.In == "query" {
					patches[gvk.Kind] = true
				}
			}
		}
		for _, r := range list.APIResources {
			if !known[r.Kind] {
				t.Errorf("%s: no schema of %s", gv, r.Kind)
			}
			if contains(r.Verbs, "patch") && !patches[r.Kind] {
				t.Errorf("%s: PATCH of %s takes no fieldValidation", gv, r.Kind)
			}
		}
	}
}

// The documents come as protobuf too, and under an address that changes with
// their content.
func TestOpenAPIForms(t *testing.T) {
	p := start(t, nil)
	const protobuf = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	code, body, header := call(t, p.admin(), "GET", "/openapi/v3/apis/apps/v1", "", map[string]string{"Accept": protobuf})
	if code != 200 || header["Content-Type"][0] != protobuf {
		t.Fatalf("%d %q", code, header["Content-Type"])
	}
	var doc openapiv3.Document
	if err := proto.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Title != "Kubernetes" || len(doc.Paths.Path) < 10 {
		t.Errorf("%s with %d paths", doc.Info.Title, len(doc.Paths.Path))
	}
	_, index, _ := call(t, p.admin(), "GET", "/openapi/v3", "", nil)
	var parsed struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal([]byte(index), &parsed); err != nil {
		t.Fatal(err)
	}
	address := parsed.Paths["apis/apps/v1"].ServerRelativeURL
	code, _, header = call(t, p.admin(), "GET", address, "", nil)
	if code != 200 || header["Cache-Control"][0] != "public, immutable" {
		t.Errorf("%s: %d %q", address, code, header["Cache-Control"])
	}
	code, _, _ = call(t, p.admin(), "GET", address, "", map[string]string{"If-None-Match": header["Etag"][0]})
	if code != 304 {
		t.Errorf("with its ETag: %d", code)
	}
	// client follows the redirect from an old address to the current one.
	code, _, header = call(t, p.admin(), "GET", "/openapi/v3/apis/apps/v1?hash=OLD", "", nil)
	if code != 200 || header["Cache-Control"][0] != "public, immutable" {
		t.Errorf("from an old address: %d %q", code, header["Cache-Control"])
	}
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}
