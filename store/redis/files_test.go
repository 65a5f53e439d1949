package redis

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// keyOf is a sealer with the key that the text makes.
type keyOf string

func (k keyOf) aead(label string) cipher.AEAD {
	key := sha256.Sum256([]byte(string(k) + "\x00" + label))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (k keyOf) Seal(_ context.Context, label string, b []byte) ([]byte, error) {
	return k.aead(label).Seal(nil, nil, b, nil), nil
}

func (k keyOf) Open(_ context.Context, label string, b []byte) ([]byte, error) {
	return k.aead(label).Open(nil, nil, b, nil)
}

// openFiles connects to the server with the key of that name.
func openFiles(t *testing.T, server *redistest.Server, key string) *Files {
	t.Helper()
	return openFilesAs(t, server, Config{Sealer: keyOf(key)})
}

func openFilesAs(t *testing.T, server *redistest.Server, with Config) *Files {
	t.Helper()
	cfg, err := ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sealer, cfg.Now = with.Sealer, with.Now
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Files()
}

// forms are the ways to run Redis. Only a Cluster shows an operation over two slots.
var fileForms = map[string]func(redistest.TB, ...redistest.Option) *redistest.Server{
	"standalone": redistest.Standalone, "sentinel": redistest.Sentinel, "cluster": redistest.Cluster,
}

const (
	hostFolder = "certificates/acme.example/dicom.hospital.example"
	hostKey    = hostFolder + "/dicom.hospital.example.key"
	hostCert   = hostFolder + "/dicom.hospital.example.crt"
)

// TestFiles: what certmagic expects of a storage, in each form of Redis.
func TestFiles(t *testing.T) {
	for form, start := range fileForms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			for _, c := range []struct {
				name string
				test func(*testing.T, *Files)
			}{
				{"empty", filesEmpty}, {"store and load", filesLoad}, {"list", filesList}, {"stat", filesStat},
				{"delete", filesDelete}, {"names", filesNames}, {"done context", filesDone}, {"writers", filesWriters},
			} {
				t.Run(c.name, func(t *testing.T) {
					f := openFiles(t, server, "a")
					if server.Cluster {
						for i := range 3 {
							server.DoAt(i, "FLUSHALL")
						}
					} else {
						server.Do("FLUSHALL")
					}
					c.test(t, f)
				})
			}
		})
	}
}

func put(t *testing.T, f *Files, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := f.Store(t.Context(), name, []byte("content of "+name)); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, f *Files, folder string, recursive bool, want ...string) {
	t.Helper()
	got, err := f.List(t.Context(), folder, recursive)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("List(%q, %v) = %q, %v; want %q", folder, recursive, got, err, want)
	}
}

func missing(t *testing.T, f *Files, name string) {
	t.Helper()
	_, err1 := f.Load(t.Context(), name)
	_, err2 := f.Stat(t.Context(), name)
	_, err3 := f.List(t.Context(), name, false)
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want fs.ErrNotExist", name, err)
		}
	}
	if ok, err := f.Exists(t.Context(), name); ok || err != nil {
		t.Errorf("Exists(%q) = %v, %v", name, ok, err)
	}
}

func filesEmpty(t *testing.T, f *Files) {
	missing(t, f, "a")
	list(t, f, "", true)
	list(t, f, "", false)
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func filesLoad(t *testing.T, f *Files) {
	for _, value := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{0, 1, '\r', '\n'}, 5000), []byte("two")} {
		if err := f.Store(t.Context(), hostKey, value); err != nil {
			t.Fatal(err)
		}
		got, err := f.Load(t.Context(), hostKey)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("%d bytes came back as %d, %v", len(value), len(got), err)
		}
	}
	if _, err := f.Load(t.Context(), hostFolder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was loaded: %v", err)
	}
	if err := f.Store(t.Context(), "big", make([]byte, store.MaxValue+1)); !errors.Is(err, store.ErrInvalid) {
		t.Error(err)
	}
	if err := f.Store(t.Context(), "big", make([]byte, store.MaxValue)); err != nil {
		t.Error(err)
	}
}

func filesList(t *testing.T, f *Files) {
	put(t, f, "a/b/c.crt", "a/b/c.key", "a/d/e", "a/f", "ab/c", "g")
	list(t, f, "", false, "a", "ab", "g")
	list(t, f, "a", false, "a/b", "a/d", "a/f")
	list(t, f, "a", true, "a/b", "a/b/c.crt", "a/b/c.key", "a/d", "a/d/e", "a/f")
	list(t, f, "a/b", false, "a/b/c.crt", "a/b/c.key")
	list(t, f, "", true, "a", "a/b", "a/b/c.crt", "a/b/c.key", "a/d", "a/d/e", "a/f", "ab", "ab/c", "g")
	list(t, f, "g", false) // a file holds nothing
	missing(t, f, "a/b/c")
}

func filesStat(t *testing.T, f *Files) {
	put(t, f, hostKey)
	info, err := f.Stat(t.Context(), hostKey)
	if err != nil || !info.Terminal || info.Name != hostKey || info.Size != int64(len("content of "+hostKey)) || time.Since(info.Modified) > time.Minute {
		t.Errorf("%+v, %v", info, err)
	}
	folder, err := f.Stat(t.Context(), hostFolder)
	if err != nil || folder.Terminal || folder.Name != hostFolder || !folder.Modified.Equal(info.Modified) {
		t.Errorf("%+v, %v", folder, err)
	}
	for _, name := range []string{hostKey, hostFolder, "certificates"} {
		if ok, err := f.Exists(t.Context(), name); !ok || err != nil {
			t.Errorf("Exists(%q) = %v, %v", name, ok, err)
		}
	}
}

func filesDelete(t *testing.T, f *Files) {
	put(t, f, "a/b", "a/c/d", "ab", "a")
	if err := f.Delete(t.Context(), "a/b"); err != nil {
		t.Fatal(err)
	}
	missing(t, f, "a/b")
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	missing(t, f, "a")
	missing(t, f, "a/c/d")
	list(t, f, "", true, "ab")
	for _, top := range []string{"", "/", "."} {
		if err := f.Delete(t.Context(), top); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Delete(%q): %v", top, err)
		}
	}
	list(t, f, "", true, "ab")
}

// filesNames: a name never reaches out of the top folder, and one file has one name.
func filesNames(t *testing.T, f *Files) {
	put(t, f, "a/b")
	for _, name := range []string{"/a/b", "a/b/", "a//b", "./a/b", "x/../a/b", "../../a/b"} {
		if b, err := f.Load(t.Context(), name); err != nil || string(b) != "content of a/b" {
			t.Errorf("%q: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"", "/", "..", strings.Repeat("x", store.MaxKey+1)} {
		if err := f.Store(t.Context(), name, nil); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Store(%.20q): %v", name, err)
		}
	}
	odd := "odd/{a}*?[x]\r\nDEL x\x00é"
	put(t, f, odd)
	list(t, f, "odd", false, odd)
}

func filesDone(t *testing.T, f *Files) {
	put(t, f, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err1 := f.Load(ctx, "a")
	_, err2 := f.List(ctx, "", true)
	_, err3 := f.Stat(ctx, "a")
	_, err4 := f.Exists(ctx, "b")
	for i, err := range []error{err1, err2, err3, err4, f.Store(ctx, "b", nil), f.Delete(ctx, "a"), f.Lock(ctx, "a")} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d: %v", i, err)
		}
	}
	list(t, f, "", true, "a")
}

// filesWriters: what is read is always one of the whole values, and the index knows all files.
func filesWriters(t *testing.T, f *Files) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			value := bytes.Repeat([]byte{byte('a' + i)}, 20000+i)
			for range 10 {
				if err := errors.Join(f.Store(t.Context(), "same", value), f.Store(t.Context(), fmt.Sprint("own/", i), value)); err != nil {
					t.Error(err)
					return
				}
				got, err := f.Load(t.Context(), "same")
				if err != nil || len(got) != 20000+int(got[0]-'a') || len(bytes.Trim(got, string(got[:1]))) != 0 {
					t.Errorf("torn: %d bytes, %v", len(got), err)
				}
			}
		})
	}
	all.Wait()
	list(t, f, "own", false, "own/0", "own/1", "own/2", "own/3", "own/4", "own/5", "own/6", "own/7")
}

// TestRow164FilesDump: what lies on Redis' disk shows no private key and no host name, also not of what was deleted.
func TestRow164FilesDump(t *testing.T) {
	server := redistest.Standalone(t, redistest.Secure())
	f := openFilesSecure(t, server, keyOf("a"))
	secret := []byte("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY\n-----END EC PRIVATE KEY-----")
	for _, name := range []string{hostKey, hostCert, "gone.hospital.example/x"} {
		if err := f.Store(t.Context(), name, secret); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Delete(t.Context(), "gone.hospital.example"); err != nil {
		t.Fatal(err)
	}
	if err := f.Lock(t.Context(), "issue_cert_dicom.hospital.example"); err != nil {
		t.Fatal(err)
	}
	dump := server.Dump()
	if !bytes.Contains(dump, []byte("anteroom:{files}:f:")) {
		t.Fatal("the dump does not hold the files: the check sees nothing")
	}
	for _, word := range []string{"PRIVATE KEY", "MHcCAQEEII", "hospital", "dicom", "certificates", "acme.example", "issue_cert"} {
		if bytes.Contains(dump, []byte(word)) {
			t.Errorf("the dump holds %q", word)
		}
	}
	if err := f.Unlock(t.Context(), "issue_cert_dicom.hospital.example"); err != nil {
		t.Error(err)
	}
}

// TestFilesExchanged: somebody who can write to Redis gives no host the key of another, and hides no file without an error.
func TestFilesExchanged(t *testing.T) {
	server := redistest.Standalone(t)
	f := openFiles(t, server, "a")
	put(t, f, "a", "b")
	idA, idB := hashName(labelFileName, "a"), hashName(labelFileName, "b")
	server.Do("COPY", "anteroom:{files}:f:"+idA, "anteroom:{files}:f:"+idB, "REPLACE")
	if b, err := f.Load(t.Context(), "b"); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the content of another file was taken: %q, %v", b, err)
	}
	server.Do("EVAL", "redis.call('HSET', KEYS[1], ARGV[2], redis.call('HGET', KEYS[1], ARGV[1])) return 1", "1", "anteroom:{files}:i", idA, idB)
	if names, err := f.List(t.Context(), "", true); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an exchanged entry was taken: %q, %v", names, err)
	}
	server.Do("EVAL", "redis.call('SET', KEYS[1], redis.call('HGET', KEYS[2], ARGV[1])) return 1", "2", "anteroom:{files}:f:"+idA, "anteroom:{files}:i", idA)
	if b, err := f.Load(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an entry of the index was taken for a file: %q, %v", b, err)
	}
	// Nor the file of another installation that has the same master key.
	put(t, f, "a")
	server.Do("COPY", "anteroom:{files}:f:"+idA, "other:{files}:f:"+idA)
	f.store.prefix = "other"
	if b, err := f.Load(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the file of another prefix was taken: %q, %v", b, err)
	}
}

// TestFilesWrongKey: with another master key a file is not absent, which would have a new one made in its place.
func TestFilesWrongKey(t *testing.T) {
	server := redistest.Standalone(t)
	f := openFiles(t, server, "a")
	put(t, f, hostKey)
	f.store.sealer = keyOf("b") // a Store with another key does not even open
	_, err1 := f.Load(t.Context(), hostKey)
	_, err2 := f.List(t.Context(), "", true)
	_, err3 := f.Stat(t.Context(), hostKey)
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "master key") {
			t.Error(err)
		}
	}
}

// TestFilesSilent: without an answer from Redis nothing is absent.
func TestFilesSilent(t *testing.T) {
	server := redistest.Standalone(t)
	f := openFiles(t, server, "a")
	put(t, f, "a")
	server.Stop()
	_, err1 := f.Load(t.Context(), "b")
	_, err2 := f.Exists(t.Context(), "b")
	for _, err := range []error{err1, err2, f.Store(t.Context(), "b", nil), f.Lock(t.Context(), "b")} {
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	server.Start()
	if _, err := f.Load(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// openFilesSecure connects with TLS as the user with the least rights.
func openFilesSecure(t *testing.T, server *redistest.Server, seal Sealer) *Files {
	t.Helper()
	cfg, err := ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sealer, cfg.TLS.RootCAs = seal, server.Roots()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Files()
}
