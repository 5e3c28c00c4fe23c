//go:build openapi

// Package definitions is kube-openapi's reading of the API's Go types, one
// function for each. All of it but this file is generated (scripts/openapi.sh)
// and never committed; nothing but the document generator imports it.
package definitions
