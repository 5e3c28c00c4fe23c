package rest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podOf(containers ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}}
	for _, name := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
	}
	return pod
}

func TestContainerOf(t *testing.T) {
	many := podOf("a", "b")
	many.Spec.InitContainers = []corev1.Container{{Name: "i"}}
	for _, c := range []struct {
		pod            *corev1.Pod
		ask, want, err string
	}{
		{podOf("a"), "", "a", ""},
		{podOf("a", "b"), "b", "b", ""},
		{many, "i", "i", ""},
		{podOf("a", "b"), "", "", "a container name must be specified for pod p, choose one of: [a b]"},
		{many, "", "", "a container name must be specified for pod p, choose one of: [i a b]"},
		{podOf("a"), "c", "", "container c is not valid for pod p"},
	} {
		got, err := containerOf(c.pod, c.ask)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.err {
			t.Errorf("containerOf(%q) = %q, %q; want %q, %q", c.ask, got, text, c.want, c.err)
		}
	}
}

func TestConnectLocation(t *testing.T) {
	for _, c := range []struct{ subresource, query, node, want, err string }{
		{"exec", "command=sh&command=-c&stdin=true&stdout=1&tty=false", "n", "https://n:10250/exec/ns/p/a?command=sh&command=-c&input=1&output=1", ""},
		{"attach", "stderr=true", "n", "https://n:10250/attach/ns/p/a?error=1", ""},
		{"portforward", "ports=80&ports=81", "n", "https://n:10250/portForward/ns/p?port=80%2C81", ""},
		{"portforward", "ports=80,x", "n", "", `cannot convert to []int32: strconv.ParseUint: parsing "x": invalid syntax`},
		{"exec", "command=sh", "", "", "pod p does not have a host assigned"},
	} {
		query, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		pod := podOf("a")
		pod.Spec.NodeName = c.node
		q := &request{Request: &http.Request{}, query: query}
		q.subresource = c.subresource
		location, err := connectLocation(q, pod)
		switch {
		case err != nil && err.Error() != c.err, err == nil && c.err != "":
			t.Errorf("%s: error %v, want %q", c.subresource, err, c.err)
		case err == nil && location.String() != c.want:
			t.Errorf("%s: %s, want %s", c.subresource, location, c.want)
		}
	}
}

func TestLogOptions(t *testing.T) {
	for query, want := range map[string]string{
		"tailLines=-1":                     "tailLines: Invalid value: -1: must be greater than or equal to 0",
		"limitBytes=0":                     "limitBytes: Invalid value: 0: must be greater than 0",
		"sinceSeconds=0":                   "sinceSeconds: Invalid value: 0: must be greater than 0",
		"tailLines=0&sinceSeconds=5":       "",
		"stream=All":                       "stream: Forbidden: may not be specified",
		"stream=":                          "stream: Forbidden: may not be specified",
		"follow=&previous=0&timestamps=no": "",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		options, err := parseLogOptions(values)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if errs := validateLogOptions(options); len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	values := url.Values{"follow": {""}, "previous": {"0"}, "tailLines": {"3"}, "sinceTime": {"2026-01-02T03:04:05Z"}}
	options, err := parseLogOptions(values)
	if err != nil {
		t.Fatal(err)
	}
	if got := logQuery(options).Encode(); got != "follow=true&sinceTime=2026-01-02T03%3A04%3A05Z&tailLines=3" {
		t.Errorf("the node is asked with %s", got)
	}
}

// Ports that are none are refused before there is a Pod to look at.
func TestForwardedPortsComeFirst(t *testing.T) {
	h := newTestHandler(Config{})
	w := ask(h, "POST", "/api/v1/namespaces/n/pods/gone/portforward?ports=-1")
	if w.Code != 400 || !strings.Contains(w.Body.String(), "cannot convert to []int32") {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
}

// Of many wrong options of a log, it is always the same that is told of.
func TestWrongLogOptionsInOrder(t *testing.T) {
	for query, want := range map[string]string{
		"tailLines=true&sinceTime=5":             "cannot parse \"5\"",
		"tailLines=a&sinceTime=5&sinceSeconds=b": "parsing \"b\"",
		"limitBytes=c&tailLines=a":               "parsing \"a\"",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseLogOptions(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}
