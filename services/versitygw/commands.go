// Package versitygw holds nothing of its own: it names the program that go.mod pins.
//go:build tools

package versitygw

import _ "github.com/versity/versitygw/cmd/versitygw"
