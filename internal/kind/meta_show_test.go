package kind

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestInternalText: what is wrong with a document in an annotation is told as of types
// without versions.
func TestInternalText(t *testing.T) {
	for text, want := range map[string]string{
		`0`:           "json: cannot unmarshal number into Go value of type []core.Toleration",
		`[{"key":1}]`: "json: cannot unmarshal number into Go struct field Toleration.Key of type string",
		`[1]`:         "json: cannot unmarshal number into Go value of type core.Toleration",
		`x`:           "invalid character 'x' looking for beginning of value",
	} {
		var list []corev1.Toleration
		if got := internalText(json.Unmarshal([]byte(text), &list)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
