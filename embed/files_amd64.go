package embed

import "embed"

// files is what scripts/build-helpers.sh made for this architecture; files
// whose name starts with a dot stay out.
//
//go:embed files/amd64
var files embed.FS
