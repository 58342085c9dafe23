//go:build tools

// Package compose names the command that scripts/build-docker-compose builds, so that go.mod keeps it.
package compose

import _ "github.com/docker/compose/v2/cmd"
