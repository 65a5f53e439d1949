package caddymodule

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// node is one node's certificate storage.
type node struct {
	certmagic.Storage
	end func() // as Caddy ends a config
}

// newNode provisions the storage as Caddy does, with the master key in that folder of the server's.
func newNode(t *testing.T, server *redistest.Server, key string) node {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"url": server.URL(), "ca": server.CA, "directory": filepath.Join(server.Dir, key)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	module, err := ctx.LoadModuleByID("caddy.storage.anteroom_redis", raw)
	if err != nil {
		t.Fatal(err)
	}
	storage, err := module.(caddy.StorageConverter).CertMagicStorage()
	if err != nil {
		t.Fatal(err)
	}
	return node{storage, cancel}
}

// connections counts those of our user.
func connections(server *redistest.Server) int {
	return strings.Count(server.Do("CLIENT", "LIST"), "user="+redistest.UserName+" ")
}

// TestStorageLikeFiles does the same with Caddy's own storage in files and with ours: certmagic and Caddy's commands
// (`storage export`) rest on what that does.
func TestStorageLikeFiles(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	ours, files := newNode(t, server, "a"), &certmagic.FileStorage{Path: t.TempDir()}
	// see says all that a storage shows.
	see := func(s certmagic.Storage) string {
		var b strings.Builder
		for _, name := range []string{"", "a", "a/b", "a/b/c.crt", "a/b/c.key", "a/b/c", "a/x", "ab", "ab/c", "top", "none", "none/x"} {
			value, err := s.Load(t.Context(), name)
			if name == "" || errors.Is(err, fs.ErrNotExist) || err == nil || s != certmagic.Storage(files) { // a folder is another error there
				fmt.Fprintf(&b, "load %q %q %v\n", name, value, err == nil)
			} else {
				fmt.Fprintf(&b, "load %q \"\" false\n", name)
			}
			info, err := s.Stat(t.Context(), name)
			if !info.IsTerminal {
				info.Size = 0 // the size of a folder on the disk
			}
			fmt.Fprintf(&b, "stat %q %q %v %d %v %v\n", name, info.Key, info.IsTerminal, info.Size, err == nil, errors.Is(err, fs.ErrNotExist))
			fmt.Fprintf(&b, "exists %q %v\n", name, s.Exists(t.Context(), name))
			for _, recursive := range []bool{false, true} {
				names, err := s.List(t.Context(), name, recursive)
				slices.Sort(names)
				fmt.Fprintf(&b, "list %q %v %q %v %v\n", name, recursive, names, err == nil, errors.Is(err, fs.ErrNotExist))
			}
		}
		return b.String()
	}
	steps := []struct {
		name string
		do   func(certmagic.Storage) error
	}{
		{"store", func(s certmagic.Storage) error {
			var errs []error
			for _, name := range []string{"a/b/c.crt", "a/b/c.key", "a/x", "ab/c", "top"} {
				errs = append(errs, s.Store(t.Context(), name, []byte("content of "+name)))
			}
			return errors.Join(errs...)
		}},
		{"store again", func(s certmagic.Storage) error { return s.Store(t.Context(), "top", []byte("other")) }},
		{"delete a file", func(s certmagic.Storage) error { return s.Delete(t.Context(), "a/b/c.key") }},
		{"delete what is not there", func(s certmagic.Storage) error { return s.Delete(t.Context(), "none/x") }},
		{"delete a folder", func(s certmagic.Storage) error { return s.Delete(t.Context(), "a") }},
	}
	for _, step := range steps {
		if err := errors.Join(step.do(ours), step.do(files)); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got, want := strings.Split(see(ours), "\n"), strings.Split(see(files), "\n")
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("after %q:\n%s\nwant\n%s", step.name, got[i], want[i])
			}
		}
	}
}

// ordered signs what it is asked for, and counts.
type ordered struct{ issued atomic.Int64 }

func (*ordered) IssuerKey() string { return "issuer.example" }

func (i *ordered) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	i.issued.Add(1)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(i.issued.Load()), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, csr.PublicKey, key)
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, err
}

// magic is certmagic with that storage.
func magic(t *testing.T, n node, i *ordered) *certmagic.Config {
	t.Helper()
	var cfg *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return cfg, nil }})
	t.Cleanup(cache.Stop)
	cfg = certmagic.New(cache, certmagic.Config{Storage: n.Storage, Issuers: []certmagic.Issuer{i}})
	return cfg
}

const hospital = "dicom.hospital.example"

// TestStorageTwoNodes: of two nodes that want the same certificate one gets it, and both serve it with the same key. Redis sees
// neither the key nor the name.
func TestStorageTwoNodes(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	a, b := newNode(t, server, "a"), newNode(t, server, "a")
	issuer := new(ordered)
	served := make([]tls.Certificate, 2)
	var both sync.WaitGroup
	for i, n := range []node{a, b} {
		cfg := magic(t, n, issuer)
		both.Go(func() {
			if err := cfg.ManageSync(t.Context(), []string{hospital}); err != nil {
				t.Error(err)
				return
			}
			cert, err := cfg.GetCertificate(&tls.ClientHelloInfo{ServerName: hospital})
			if err != nil {
				t.Error(err)
				return
			}
			served[i] = *cert
		})
	}
	both.Wait()
	if t.Failed() {
		return
	}
	if issuer.issued.Load() != 1 {
		t.Errorf("%d certificates were ordered", issuer.issued.Load())
	}
	key, other := served[0].PrivateKey.(*ecdsa.PrivateKey), served[1].PrivateKey.(*ecdsa.PrivateKey)
	if !key.Equal(other) || !key.PublicKey.Equal(served[0].Leaf.PublicKey) {
		t.Error("the nodes serve different keys")
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	dump := server.Dump()
	if !bytes.Contains(dump, []byte("anteroom:{files}:")) {
		t.Fatal("the dump does not hold the files: the check sees nothing")
	}
	for what, needle := range map[string][]byte{"private key": der, "scalar of the key": scalar, "PEM": []byte("PRIVATE KEY"), "name of the host": []byte("hospital"), "certificate": served[0].Certificate[0]} {
		if bytes.Contains(dump, needle) {
			t.Errorf("the dump holds the %s", what)
		}
	}
	if dump = []byte(server.Do("KEYS", "*")); bytes.Contains(dump, []byte(":l:")) {
		t.Errorf("a lock was left behind: %s", dump)
	}
}

// TestStorageOtherMasterKey: a node with another master key gets a message that says so, orders nothing and writes nothing over
// what the others have.
func TestStorageOtherMasterKey(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	issuer := new(ordered)
	a := newNode(t, server, "a")
	if err := magic(t, a, issuer).ManageSync(t.Context(), []string{hospital}); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, server, "b")
	if err := magic(t, b, issuer).ManageSync(t.Context(), []string{hospital}); err == nil || !strings.Contains(err.Error(), "master key") {
		t.Errorf("the message does not speak of the master key: %v", err)
	}
	_, err := b.Load(t.Context(), "any")
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "master key") {
		t.Error(err)
	}
	if err := b.Store(t.Context(), "any", nil); err == nil {
		t.Error("it writes")
	}
	if issuer.issued.Load() != 1 {
		t.Errorf("%d certificates were ordered", issuer.issued.Load())
	}
	if names, err := a.List(t.Context(), "", false); err != nil || !slices.Equal(names, []string{"certificates"}) {
		t.Errorf("%q %v", names, err)
	}
}

// TestStorageSilent: a config that is provisioned touches no network; without Redis nothing counts as absent; when Redis is there
// again the storage is.
func TestStorageSilent(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	server.Stop()
	n := newNode(t, server, "a")
	_, err1 := n.Load(t.Context(), "a")
	_, err2 := n.List(t.Context(), "a", true)
	_, err3 := n.Stat(t.Context(), "a")
	for i, err := range []error{err1, err2, err3, n.Store(t.Context(), "a", nil), n.Lock(t.Context(), "a")} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), server.Password) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n.Exists(t.Context(), "a") {
		t.Error("something exists in a storage that does not answer")
	}
	server.Start()
	n.Storage.(*redisFiles).until = time.Time{} // the moment of rest is over
	if err := n.Store(t.Context(), "a", []byte("x")); err != nil {
		t.Error(err)
	}
	if text := fmt.Sprint(n.Storage); !strings.Contains(text, server.Addresses[0]) || strings.Contains(text, server.Password) {
		t.Errorf("it calls itself %q", text)
	}
}

// TestStorageEnds: connections are shared, stay open as long as a lock is held, and are closed with the last config.
func TestStorageEnds(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	a, b := newNode(t, server, "a"), newNode(t, server, "a")
	locker := a.Storage.(certmagic.TryLocker)
	if ok, err := locker.TryLock(t.Context(), "x"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := b.Storage.(certmagic.TryLocker).TryLock(t.Context(), "x"); ok || err != nil {
		t.Fatal("two configs hold one lock", err)
	}
	first := a.Storage.(*redisFiles).ref.res
	if first == nil || first != b.Storage.(*redisFiles).ref.res {
		t.Error("two configs have connections of their own")
	}
	b.end()
	a.end()
	if err := a.Storage.(certmagic.LockLeaseRenewer).RenewLockLease(t.Context(), "x", time.Hour); err != nil {
		t.Errorf("the holder of a lock was cut off: %v", err)
	}
	if err := a.Unlock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if err := a.Unlock(t.Context(), "x"); !errors.Is(err, errStorageOver) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := b.Load(t.Context(), "x"); !errors.Is(err, errStorageOver) {
		t.Errorf("after the end: %v", err)
	}
	for start := time.Now(); connections(server) > 0; { // Redis notices a little later
		if time.Since(start) > 5*time.Second {
			t.Fatalf("%d connections are left", connections(server))
		}
	}
	c := newNode(t, server, "a")
	if ok, err := c.Storage.(certmagic.TryLocker).TryLock(t.Context(), "x"); !ok || err != nil {
		t.Errorf("the lock was not given back: %v, %v", ok, err)
	}
}

// TestStorageLostLock: certmagic's next attempt does not begin while another node has the lock, and does when it is free.
func TestStorageLostLock(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	a, b := newNode(t, server, "a"), newNode(t, server, "a")
	if err := a.Lock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields(server.Do("KEYS", "anteroom:l:*")) {
		server.Do("DEL", key)
	}
	if err := b.Lock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	again := a.Storage.(certmagic.LockLeaseRenewer)
	if err := again.RenewLockLease(t.Context(), "x", time.Hour); err == nil {
		t.Error("both work")
	}
	if err := b.Unlock(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := again.RenewLockLease(t.Context(), "x", time.Hour); err != nil {
		t.Error(err)
	}
	if err := a.Unlock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
}

// TestStorageCaddy runs Caddy with its own certificates in Redis: the keys of its authority and of the site are in Redis only,
// reloads neither add connections nor lose certificates, and `validate` works beside it.
func TestStorageCaddy(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	b := newBench(t)
	t.Setenv("REDIS_URL", server.URL())
	config := func(n int) []byte {
		text := strings.Replace(b.file("\tlocal_certs\n", fmt.Sprintf("app.test:8443 {\n\theader X-Config %d\n\trespond x\n}\n", n)),
			"storage file_system "+b.dir+"/storage", fmt.Sprintf("storage anteroom_redis {env.REDIS_URL} {\n\t\tca %s\n\t\tdirectory %s/anteroom\n\t}", server.CA, b.dir), 1)
		out, err := adapt(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(out, []byte(server.Password)) {
			t.Error("the JSON holds the password")
		}
		return out
	}
	if err := validate(t, config(0)); err != nil {
		t.Fatal(err)
	}
	serial := func(n int) string {
		app := run(t, config(n))
		var got string
		for start := time.Now(); got == ""; { // the certificate is ordered in the background
			for _, s := range app.Servers {
				c, err := tls.Dial("tcp", s.Listeners()[0].Addr().String(), &tls.Config{ServerName: "app.test", InsecureSkipVerify: true})
				if err == nil {
					got = c.ConnectionState().PeerCertificates[0].SerialNumber.String()
					_ = c.Close()
				} else if time.Since(start) > 20*time.Second {
					t.Fatal(err)
				}
			}
		}
		return got
	}
	first := serial(1)
	before := connections(server)
	for n := range 5 {
		if got := serial(n + 2); got != first {
			t.Fatalf("after a reload another certificate is served")
		}
	}
	if err := validate(t, config(0)); err != nil {
		t.Error(err)
	}
	if after := connections(server); before == 0 || after > before+2 {
		t.Errorf("%d connections became %d", before, after)
	}
	for _, folder := range []string{"certificates", "pki", "acme", "ocsp", "locks"} {
		if exists(filepath.Join(b.dir, "data", "caddy", folder)) {
			t.Errorf("Caddy keeps %s beside Redis", folder)
		}
	}
	if dump := server.Dump(); bytes.Contains(dump, []byte("PRIVATE KEY")) || bytes.Contains(dump, []byte("app.test")) {
		t.Error("the dump holds a key or a name")
	}
}

// TestStorageWrites: what can be wrong in the Caddyfile is told with its line.
func TestStorageWrites(t *testing.T) {
	b := newBench(t)
	for lines, want := range map[string]string{
		"storage anteroom_redis":                                                           "Caddyfile:",
		"storage anteroom_redis {\n\t\tdirectory x\n\t}":                                   "absolute path",
		"storage anteroom_redis redis://127.0.0.1:1 {\n\t\tdirectory\n\t}":                 "directory takes exactly one value",
		"storage anteroom_redis redis://127.0.0.1:1 {\n\t\tfolder /x\n\t}":                 "unrecognized line",
		"storage anteroom_redis redis://redis.hospital.example:6379":                       "TLS",
		"storage anteroom_redis {env.NO_SUCH_VARIABLE_OF_ANTEROOM}":                        "url",
		"storage anteroom_redis redis://127.0.0.1:1 {\n\t\tca " + b.dir + "/none.pem\n\t}": "none.pem",
	} {
		config, err := adapt(t, strings.Replace(b.file("", "app.test:8443 {\n\tTLS\n\trespond x\n}\n"), "storage file_system "+b.dir+"/storage", lines, 1))
		if err == nil {
			err = validate(t, config)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nsays %v, want %q", lines, err, want)
		}
	}
}
