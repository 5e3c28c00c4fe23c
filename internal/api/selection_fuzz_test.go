package api

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Selectors select, or are refused; both selectors say of an object what the same
// selector written out again says.
func FuzzSelectors(f *testing.F) {
	for _, seed := range [][2]string{
		{"a=b,c!=d,e in (f,g),!h,i,j notin (k),l>1", "metadata.name=p,spec.nodeName!=n"},
		{"a = b , c", `metadata.name=\,\=\\`}, {"(", "="}, {"a in ()", "status.phase==Running"}, {"a/b=c", "metadata.namespace=default"}, {"", ""}, {"a,,b", ",,"},
	} {
		f.Add(uint8(5), seed[0], seed[1])
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", Labels: map[string]string{"a": "b", "e": "f", "l": "2"}}}
	a := &API{}
	f.Fuzz(func(t *testing.T, which uint8, labels, fields string) {
		k := kind.All[int(which)%len(kind.All)]
		req := &Request{Kind: k}
		if n := int(which) / len(kind.All) % (len(k.Faces) + 1); n > 0 {
			req.Face = &k.Faces[n-1]
		}
		s, err := a.selects(req, &ListOptions{LabelSelector: labels, FieldSelector: fields}, false)
		if err != nil {
			return
		}
		obj := kind.Object(pod)
		if k != kind.Pod {
			obj = k.New()
			obj.SetName("p")
			obj.SetLabels(pod.Labels)
		}
		matches := s.matches(obj)
		req.Face = nil // what is written out has the stored names
		again, err := a.selects(req, &ListOptions{LabelSelector: s.labels.String(), FieldSelector: s.fields.String()}, false)
		if err != nil {
			t.Fatalf("%q, %q written out as %q, %q: %v", labels, fields, s.labels, s.fields, err)
		}
		if again.matches(obj) != matches {
			t.Errorf("%q, %q: %v, and written out as %q, %q not", labels, fields, matches, s.labels, s.fields)
		}
	})
}

// A token to continue is read as it was written, or refused.
func FuzzContinue(f *testing.F) {
	for _, seed := range []string{"", "a", continuation{Revision: 5, Start: "default/a\x00"}.token(), continuation{Revision: -1, Start: "a\x00"}.token(),
		"eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiIuLi94In0", "bnVsbA", "W10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, err := parseContinue(token)
		if err != nil {
			return
		}
		again, err := parseContinue(c.token())
		if err != nil || again != c {
			t.Errorf("%q is %+v and then %+v, %v", token, c, again, err)
		}
	})
}
