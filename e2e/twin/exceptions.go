package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"
)

//go:embed exceptions.yaml
var exceptionsFile []byte

// mostExceptions is how many there may be: who needs more is not compatible.
const mostExceptions = 30

// Exception is a difference on purpose. It names resources, and either shapes as the
// report does, in full, or what requests send that are answered differently in all.
type Exception struct {
	Resources   []string `json:"resources"`
	Differences []string `json:"differences"`
	Sent        []string `json:"sent"` // parts of bodies, in full
	Request     string   `json:"request"`
	Upstream    string   `json:"upstream"`
	Skiff       string   `json:"skiff"`
	Why         string   `json:"why"`
}

// readExceptions reads the file of exceptions and sees that each says all it must.
func readExceptions(data []byte) ([]Exception, error) {
	var list []Exception
	if err := yaml.UnmarshalStrict(data, &list, func(d *json.Decoder) *json.Decoder { d.DisallowUnknownFields(); return d }); err != nil {
		return nil, fmt.Errorf("exceptions.yaml: %w", err)
	}
	var errs []error
	if len(list) > mostExceptions {
		errs = append(errs, fmt.Errorf("exceptions.yaml has %d entries: %d are allowed", len(list), mostExceptions))
	}
	for i, e := range list {
		if len(e.Resources) == 0 || len(e.Differences)+len(e.Sent) == 0 || e.Request == "" || e.Upstream == "" || e.Skiff == "" || e.Why == "" {
			errs = append(errs, fmt.Errorf("exceptions.yaml, entry %d: resources, differences or sent, request, upstream, skiff and why must all be given", i+1))
		}
	}
	return list, errors.Join(errs...)
}

// reason returns why a difference is one on purpose, "" for one that is not.
func reason(list []Exception, resource string, r Request, shape string) string {
	for _, e := range list {
		sent := func(part string) bool { return bytes.Contains(r.Body, []byte(part)) }
		if slices.Contains(e.Resources, resource) && (slices.Contains(e.Differences, shape) || slices.ContainsFunc(e.Sent, sent)) {
			return e.Why
		}
	}
	return ""
}
