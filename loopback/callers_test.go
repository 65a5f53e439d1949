package loopback

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCallers: row 137. One way is enough, none lets nobody in, and a list of users holds for everybody who comes over a
// Unix socket.
func TestCallers(t *testing.T) {
	token, err := OpenTokenFile(writeToken(t, testToken, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	key, other := [32]byte{1}, [32]byte{2}
	right := http.Header{"Authorization": {"Bearer " + testToken}}
	wrong := http.Header{"Authorization": {"Bearer x" + testToken}}
	peer := func(uid, gid int) Facts { return Facts{Peer: &Peer{uid, gid, 1}} }
	cert := func(hash [32]byte) Facts { return Facts{ClientCertificate: hash} }
	all := Callers{Token: token, UIDs: []int{33, 0}, GIDs: []int{44}, Certificates: [][32]byte{key}}
	for name, c := range map[string]struct {
		callers Callers
		facts   Facts
		header  http.Header
		want    string // "" is refused
	}{
		"row 137 nobody is configured":               {Callers{}, Facts{}, right, ""},
		"row 137 nobody is configured, with a peer":  {Callers{}, peer(0, 0), right, ""},
		"row 137 no token":                           {all, Facts{}, nil, ""},
		"row 137 the token":                          {all, Facts{}, right, "token"},
		"row 137 another token":                      {all, Facts{}, wrong, ""},
		"row 137 Basic":                              {all, Facts{}, http.Header{"Authorization": {"Basic " + testToken}}, ""},
		"row 137 two tokens":                         {all, Facts{}, http.Header{"Authorization": {"Bearer " + testToken, "Bearer " + testToken}}, ""},
		"row 137 scheme in another case":             {all, Facts{}, http.Header{"Authorization": {"bEARER " + testToken}}, "token"},
		"the right user":                             {all, peer(33, 7), nil, "uid:33"},
		"the superuser, who is on the list":          {all, peer(0, 7), nil, "uid:0"},
		"the right group":                            {all, peer(7, 44), nil, "gid:44"},
		"another user":                               {all, peer(34, 45), nil, ""},
		"another user with the token":                {all, peer(34, 45), right, ""},
		"a user whom the kernel does not say":        {all, peer(-1, -1), nil, ""},
		"-1 is on no list, whatever the list":        {Callers{UIDs: []int{-1}, GIDs: []int{-1}}, peer(-1, -1), nil, ""},
		"uid of the list as gid":                     {all, peer(44, 33), nil, ""},
		"another user with the certificate":          {all, Facts{Peer: &Peer{34, 45, 1}, ClientCertificate: key}, nil, ""},
		"no list: a Unix socket and the token":       {Callers{Token: token}, peer(34, 45), right, "token"},
		"no list: a Unix socket without the token":   {Callers{Token: token}, peer(0, 0), nil, ""},
		"a list of users alone, over TCP":            {Callers{UIDs: []int{0}}, Facts{}, right, ""},
		"the certificate":                            {all, cert(key), nil, "certificate:0100000000000000"},
		"another certificate":                        {all, cert(other), nil, ""},
		"another certificate, with the token":        {all, cert(other), right, "token"},
		"no certificate":                             {Callers{Certificates: [][32]byte{key}}, Facts{}, right, ""},
		"no certificate, and zeros are on the list":  {Callers{Certificates: [][32]byte{{}}}, Facts{}, nil, ""},
		"the certificate, where none is on the list": {Callers{Token: token}, cert(key), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := c.callers.Check(c.facts, c.header)
			if who != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrCredential) {
				t.Errorf("%q, %v", who, err)
			}
			if err != nil && strings.Contains(err.Error(), testToken) {
				t.Error("the error repeats the token")
			}
		})
	}
	os.Remove(token.path)
	token.now = func() time.Time { return time.Now().Add(lookEvery) }
	if _, err := all.Check(Facts{}, right); !errors.Is(err, ErrUnreadable) || errors.Is(err, ErrCredential) {
		t.Errorf("without the file: %v", err)
	}
	if who, err := all.Check(peer(33, 0), nil); err != nil || who != "uid:33" {
		t.Errorf("a user, without the token's file: %v", err)
	}
	for name, c := range map[string]Callers{"token": {Token: token}, "uid": {UIDs: []int{0}}, "gid": {GIDs: []int{0}}, "certificate": {Certificates: [][32]byte{key}}} {
		if c.None() {
			t.Errorf("%s: nobody may call", name)
		}
	}
	if !(Callers{}).None() {
		t.Error("the zero value lets somebody in")
	}
}

// TestPeerOf: row 136, the kernel's word about the other end of a Unix socket.
func TestPeerOf(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *PeerOf(server.(*net.UnixConn)), (Peer{os.Geteuid(), os.Getegid(), os.Getpid()}); got != want {
		t.Errorf("the peer is %v, want %v", got, want)
	}
	server.Close()
	if got := *PeerOf(server.(*net.UnixConn)); got != (Peer{-1, -1, -1}) {
		t.Errorf("the peer of a closed socket is %v", got)
	}
}

// issue makes a certificate signed by itself.
func issue(t *testing.T, from, to time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestCertificateOf(t *testing.T) {
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	cert, _ := issue(t, now.Add(-time.Hour), now.Add(time.Hour))
	zero, state := [32]byte{}, func(certs ...*x509.Certificate) *tls.ConnectionState {
		return &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: certs}
	}
	other, _ := issue(t, now.Add(-time.Hour), now.Add(time.Hour))
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		now   time.Time
		want  [32]byte
	}{
		"valid":                   {state(cert), now, keyHash(cert)},
		"the first one counts":    {state(other, cert), now, keyHash(other)},
		"expired":                 {state(cert), now.Add(2 * time.Hour), zero},
		"not yet valid":           {state(cert), now.Add(-2 * time.Hour), zero},
		"none":                    {state(), now, zero},
		"no TLS":                  {nil, now, zero},
		"before the key was seen": {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, now, zero},
	} {
		if got := CertificateOf(c.state, c.now); got != c.want {
			t.Errorf("%s: %x", name, got)
		}
	}
}

func TestParseCertificate(t *testing.T) {
	cert, key := issue(t, time.Unix(0, 0), time.Unix(1, 0))
	want := keyHash(cert)
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	dir := t.TempDir()
	file := func(name string, blocks ...*pem.Block) string {
		var b []byte
		for _, block := range blocks {
			b = append(b, pem.EncodeToMemory(block)...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	one, secret := &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}, &pem.Block{Type: "PRIVATE KEY", Bytes: private}
	for _, text := range []string{file("cert", one), file("public", &pem.Block{Type: "PUBLIC KEY", Bytes: cert.RawSubjectPublicKeyInfo}),
		"sha256:" + hex.EncodeToString(spki[:]), "sha256:" + strings.ToUpper(hex.EncodeToString(spki[:]))} {
		if got, err := ParseCertificate(text); err != nil || got != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"short hash":              {"sha256:00ff", "64 hexadecimal digits"},
		"zeros":                   {"sha256:" + strings.Repeat("0", 64), "64 hexadecimal digits"},
		"colons":                  {"sha256:" + strings.Repeat("00:", 32), "64 hexadecimal digits"},
		"absent":                  {filepath.Join(dir, "absent"), "no such file"},
		"empty file":              {file("empty"), "no PEM"},
		"with its issuer":         {file("chain", one, one), "several PEM blocks"},
		"with its private key":    {file("both", one, secret), "several PEM blocks"},
		"a private key":           {file("private", secret), "holds a private key"},
		"garbage":                 {file("garbage", &pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "garbage"},
		"garbage as public key":   {file("garbage2", &pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "garbage2"},
		"hash without its prefix": {hex.EncodeToString(spki[:]), "no such file"},
	} {
		if got, err := ParseCertificate(c.text); err == nil || got != ([32]byte{}) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
