//go:build !unix

package redis

import "net"

// gone cannot tell on this system: a dead connection is found by using it.
func gone(net.Conn) bool { return false }
