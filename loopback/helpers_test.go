package loopback

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

const testToken = "0123456789abcdef0123456789abcdef-not-a-secret"

func writeToken(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// goodFacts is a local program that does everything right.
func goodFacts() Facts {
	lo := netip.MustParseAddr("127.0.0.1")
	return Facts{KernelRemote: lo, KernelLocal: lo, Remote: lo, Client: lo, ProtoMajor: 1, ProtoMinor: 1,
		TLSVersion: tls.VersionTLS13, HandshakeComplete: true, SNI: "localhost", Host: "localhost:8444", Header: http.Header{}}
}
