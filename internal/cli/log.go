package cli

import (
	"flag"
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"

	"github.com/skiff-sh/skiff/internal/config"
)

// newLogger returns the process's logger, which writes to standard error.
func newLogger(settings config.Node) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(settings.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("log-level: %w", err)
	}
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(level)
	c.Encoding = settings.LogFormat
	c.Sampling = nil
	c.DisableCaller = true
	c.EncoderConfig.TimeKey = "time"
	c.EncoderConfig.EncodeTime = zapcore.TimeEncoderOfLayout(time.RFC3339Nano)
	if settings.LogFormat == "console" {
		c.EncoderConfig.EncodeTime = zapcore.TimeEncoderOfLayout("2006-01-02T15:04:05.000Z07:00")
		c.EncoderConfig.EncodeLevel = zapcore.CapitalLevelEncoder
	}
	log, err := c.Build()
	if err != nil {
		return nil, err
	}
	return log, adoptLibraries(log)
}

// adoptLibraries sends what the Kubernetes libraries log by klog the way of
// everything else. Their informational lines are for debugging.
func adoptLibraries(log *zap.Logger) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{
		"logtostderr": "false", "stderrthreshold": "FATAL", "one_output": "true", "skip_headers": "true",
	} {
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("set klog's %s: %w", name, err)
		}
	}
	log = log.Named("client-go")
	for severity, level := range map[string]zapcore.Level{
		"INFO": zap.DebugLevel, "WARNING": zap.WarnLevel, "ERROR": zap.WarnLevel, "FATAL": zap.ErrorLevel,
	} {
		std, err := zap.NewStdLogAt(log, level)
		if err != nil {
			return err
		}
		klog.SetOutputBySeverity(severity, std.Writer())
	}
	return nil
}
