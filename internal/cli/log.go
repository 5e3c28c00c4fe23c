package cli

import (
	"fmt"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

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
	return c.Build()
}
