package kind

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// noon is when tables are printed, three hours after everything in them
// was created.
func noon() (now time.Time, created metav1.Time) {
	now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return now, metav1.NewTime(now.Add(-3 * time.Hour))
}

// rowOf prints an object created three hours ago.
func rowOf(t *testing.T, k *Kind, obj Object, want ...any) {
	t.Helper()
	now, created := noon()
	obj.SetCreationTimestamp(created)
	row := k.Row(obj, now)
	if d := cmp.Diff(want, row); d != "" {
		t.Errorf("%s: %s", k.Kind, d)
	}
	if len(row) != len(k.Columns) {
		t.Errorf("%s: %d cells for %d columns", k.Kind, len(row), len(k.Columns))
	}
}

const badKey = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"

func TestConfigMap(t *testing.T) {
	c := &corev1.ConfigMap{
		Data:       map[string]string{"a b": "", "both": ""},
		BinaryData: map[string][]byte{"both": nil, "c/d": nil},
	}
	sameErrors(t, ConfigMap.Validate(c),
		`data[a b]: Invalid value: "a b": `+badKey,
		`data[both]: Invalid value: "both": duplicate of key present in binaryData`,
		`binaryData[c/d]: Invalid value: "c/d": `+badKey)
	half := strings.Repeat("x", 512<<10)
	c = &corev1.ConfigMap{Data: map[string]string{"a": half}, BinaryData: map[string][]byte{"b": []byte(half)}}
	sameErrors(t, ConfigMap.Validate(c))
	c.Data["a"] += "x"
	sameErrors(t, ConfigMap.Validate(c), "[]: Too long: may not be more than 1048576 bytes")

	c = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "cm"}, Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}}
	rowOf(t, ConfigMap, c, "cm", int64(2), "3h")
	if ConfigMap.Default(c); c.BinaryData["b"] == nil {
		t.Error("null is not the empty value")
	}
}

func TestConfigMapImmutable(t *testing.T) {
	old := &corev1.ConfigMap{Immutable: ptr(true), Data: map[string]string{"a": "1"}}
	sameErrors(t, ConfigMap.ValidateUpdate(&corev1.ConfigMap{Data: map[string]string{"a": "2"}, BinaryData: map[string][]byte{"b": {1}}}, old),
		"immutable: Forbidden: field is immutable when `immutable` is set",
		"data: Forbidden: field is immutable when `immutable` is set",
		"binaryData: Forbidden: field is immutable when `immutable` is set")
	same := old.DeepCopy()
	same.Labels = map[string]string{"a": "b"}
	sameErrors(t, ConfigMap.ValidateUpdate(same, old))
	same.BinaryData = map[string][]byte{} // is not nothing, as upstream
	sameErrors(t, ConfigMap.ValidateUpdate(same, old), "binaryData: Forbidden: field is immutable when `immutable` is set")
	old.Immutable = ptr(false)
	sameErrors(t, ConfigMap.ValidateUpdate(&corev1.ConfigMap{}, old))
}
