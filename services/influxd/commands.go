//go:build tools

// Package influxd names the commands that scripts/build-influxd builds, so that go.mod keeps them.
package influxd

import (
	_ "github.com/influxdata/influxdb/v2/cmd/influxd"
	_ "github.com/influxdata/pkg-config"
)
