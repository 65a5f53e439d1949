package loopback

import (
	"net"
	"syscall"
)

// PeerOf asks the kernel who connected to a Unix socket. What it does not say is -1, which is on no list.
func PeerOf(c *net.UnixConn) *Peer {
	unknown := &Peer{-1, -1, -1}
	raw, err := c.SyscallConn()
	if err != nil {
		return unknown
	}
	var cred *syscall.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return unknown
	}
	return &Peer{idOf(cred.Uid), idOf(cred.Gid), int(cred.Pid)}
}

// idOf keeps the kernel's own "no id", the highest number, from being one.
func idOf(id uint32) int {
	if id == 1<<32-1 {
		return -1
	}
	return int(int64(id))
}
