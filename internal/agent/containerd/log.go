package containerd

import (
	"strings"

	containerdlog "github.com/containerd/log"
	"go.uber.org/zap"
)

// routeLog sends what containerd's packages log to our logger. Theirs is one
// for the process: the runtime opened last gets it. Below errors they tell of
// every step.
func routeLog(log *zap.Logger) error {
	containerdlog.L.Logger.SetOutput(lineWriter{log})
	return containerdlog.SetLevel("error")
}

type lineWriter struct{ log *zap.Logger }

// Write implements io.Writer; the logger writes an entry at a time.
func (w lineWriter) Write(entry []byte) (int, error) {
	w.log.Warn("from containerd", zap.String("entry", strings.TrimSpace(string(entry))))
	return len(entry), nil
}
