package checkpoint

import (
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

func TestMain(m *testing.M) {
	// The library's delay after errors is the process's: its clock is no bubble's.
	utilruntime.ErrorHandlers = nil
	m.Run()
}
