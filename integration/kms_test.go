package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
)

// kmsConfig is the configuration of the attack tables with $MASTER, and with an admin socket for the subcommands.
var kmsConfig = strings.Replace(strings.Replace(standard, globals, hallGlobals, 1), "\tanteroom {", "\tanteroom {\n\t\t$MASTER", 1)

// kmsCache is how long a data key is kept, see lines.
const kmsCache = 2 * time.Second

// kmsDouble is a KMS on the loopback interface.
type kmsDouble struct {
	key, url  string
	cut, heal func()
}

func (k kmsDouble) lines() string {
	return "master awskms " + k.key + " {\n endpoint " + k.url + "\n cache " + kmsCache.String() + "\n}"
}

// awsEnvironment gives the processes of the test credentials, and nothing else of this machine's.
func awsEnvironment(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLEOFATEST00", "AWS_SECRET_ACCESS_KEY": "secret-access-key-of-the-tests", "AWS_SESSION_TOKEN": "session-token-of-the-tests",
		"AWS_PROFILE": "", "AWS_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_KMS": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": t.TempDir() + "/config", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/credentials",
	} {
		t.Setenv(name, value)
	}
}

func fakeKMS(t *testing.T) (*kmstest.Fake, kmsDouble) {
	fake := kmstest.NewFake(t)
	return fake, kmsDouble{fake.Key(), fake.URL, func() { fake.Fail(kmstest.Down) }, func() { fake.Fail(kmstest.None) }}
}

// loginStatus begins a sign-in, which seals an attempt.
func (r *rig) loginStatus(t *testing.T) int {
	t.Helper()
	return newBrowser(t).do(t, navigation(t, http.MethodGet, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "")).Status
}

// TestRow157KMSDown: with the master key in KMS people sign in, and sessions live through a restart. When KMS is away all goes on for as long as
// data keys may be kept, and then what needs them is refused: nothing else takes their place. Sessions go on. When KMS is back all is
// as before, without a restart.
func TestRow157KMSDown(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		awsEnvironment(t)
		fake, double := fakeKMS(t)
		r := kmsDown(t, double)
		nothingClear(t, r, fake)
	})
	t.Run("moto", func(t *testing.T) {
		awsEnvironment(t)
		moto := kmstest.StartMoto(t)
		kmsDown(t, kmsDouble{moto.Key(), moto.URL, moto.Freeze, moto.Thaw})
	})
}

func kmsDown(t *testing.T, kms kmsDouble) *rig {
	t.Helper()
	r := newRig(t, kmsConfig, "MASTER", kms.lines())
	dana := r.person(t, appHost, "dana")
	if exists(filepath.Join(r.dataDir(), "anteroom", "master.key")) {
		t.Error("a key file was made beside the key in KMS")
	}
	r.proc.kill()
	fetched := time.Now() // at the earliest: the data key
	r.run(t)
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Fatalf("after a restart a session is answered %d", got)
	}
	if got := r.loginStatus(t); got != http.StatusFound {
		t.Fatalf("a sign-in begins with %d", got)
	}
	kms.cut()
	for got := r.loginStatus(t); got != http.StatusFound; got = r.loginStatus(t) {
		if within := time.Since(fetched); within < kmsCache {
			t.Errorf("within the cache a sign-in begins with %d", got)
			break
		}
		kms.heal() // a slow machine: the time was over when it was asked
		eventually(t, patience, func() error {
			fetched = time.Now()
			if got := r.loginStatus(t); got != http.StatusFound {
				return fmt.Errorf("a sign-in begins with %d", got)
			}
			return nil
		})
		kms.cut()
	}
	time.Sleep(2500 * time.Millisecond) // the data keys' time in memory
	began := startWatch()
	if got := r.loginStatus(t); got != http.StatusServiceUnavailable {
		t.Errorf("without KMS a sign-in begins with %d", got)
	}
	if took := began.elapsed(); began.over(took, 10*time.Second) {
		t.Errorf("the refusal took %s", took)
	}
	for range 3 {
		if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
			t.Errorf("without KMS a session is answered %d", got)
		}
	}
	if !strings.Contains(r.proc.log(), "AWS KMS does not answer") {
		t.Error("the log does not say that KMS is away")
	}
	kms.heal()
	eventually(t, patience, func() error {
		if got := r.loginStatus(t); got != http.StatusFound {
			return fmt.Errorf("KMS is back and a sign-in begins with %d", got)
		}
		return nil
	})
	pat := r.person(t, appHost, "pat")
	if one, two := r.status(t, appHost, "/members/x", dana), r.status(t, appHost, "/members/x", pat); one != http.StatusOK || two != http.StatusOK {
		t.Errorf("afterwards sessions are answered %d and %d", one, two)
	}
	return r
}

// nothingClear looks for data keys, and for what gives access to KMS, in everything that was written.
func nothingClear(t *testing.T, r *rig, fake *kmstest.Fake) {
	t.Helper()
	secrets := map[string]string{"secret access key": "secret-access-key-of-the-tests", "session token": "session-token-of-the-tests"}
	for i, key := range fake.Plain() {
		secrets[fmt.Sprint("data key ", i)] = string(key)
		secrets[fmt.Sprint("data key in base64 ", i)] = strings.TrimRight(base64.StdEncoding.EncodeToString(key), "=")
		secrets[fmt.Sprint("data key in hex ", i)] = hex.EncodeToString(key)
	}
	if len(secrets) < 5 {
		t.Fatal("no data key was made: nothing was looked for")
	}
	files := 0
	look := func(name string, content []byte) {
		files++
		for what, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s stands in %s", what, name)
			}
		}
	}
	look("the log", []byte(r.proc.log()))
	err := filepath.WalkDir(r.dataDir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, b)
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files were read, %v", files, err)
	}
	for _, q := range fake.Requests() {
		if len(q.Context) == 0 || q.Context["service"] != "anteroom" {
			t.Errorf("%s was asked with the context %v", q.Operation, q.Context)
		}
	}
}

// TestRow157KMSRefuses: a key that was disabled is no reason for another one, at a start neither, and the message says what to do.
func TestRow157KMSRefuses(t *testing.T) {
	awsEnvironment(t)
	fake, double := fakeKMS(t)
	r := newRig(t, kmsConfig, "MASTER", double.lines())
	dana := r.person(t, appHost, "dana")
	fake.Set(fake.Key(), kmstest.Disabled)
	time.Sleep(2500 * time.Millisecond)
	if got := r.loginStatus(t); got != http.StatusServiceUnavailable {
		t.Errorf("with a disabled key a sign-in begins with %d", got)
	}
	r.proc.stop(t)
	again := start(t, "anteroom-disabled", r.env(), binary(t, "anteroom"), "run", "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile")
	select {
	case <-again.done:
	case <-time.After(2 * patience):
		t.Fatal("it starts with a disabled key")
	}
	if !strings.Contains(again.log(), "aws kms enable-key --key-id "+fake.Key()) {
		t.Errorf("the message lacks the remedy:\n%s", again.tail())
	}
	fake.Set(fake.Key(), kmstest.Enabled)
	r.run(t)
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Errorf("with the key enabled again the session is answered %d", got)
	}
}

// TestMasterMigrates: from the key file to KMS by one line, a restart and one command; sessions live on, and the file is needed no more.
func TestMasterMigrates(t *testing.T) {
	awsEnvironment(t)
	_, double := fakeKMS(t)
	r := newRig(t, kmsConfig, "MASTER", "master local")
	dana := r.person(t, appHost, "dana")
	r.proc.stop(t)
	r.names["$MASTER"] = double.lines()
	r.configure(t, kmsConfig)
	r.run(t)
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Fatalf("with KMS before the migration a session is answered %d", got)
	}
	keys := func(args ...string) result {
		return output(t, r.env(), append(append([]string{binary(t, "anteroom"), "keys"}, args...), "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile")...)
	}
	if res := keys("migrate"); res.code != 0 {
		t.Fatalf("keys migrate: %d %s%s", res.code, res.stdout, res.stderr)
	}
	if err := os.Rename(filepath.Join(r.dataDir(), "anteroom", "master.key"), filepath.Join(r.dir, "former.key")); err != nil {
		t.Fatal(err)
	}
	r.proc.kill()
	r.run(t)
	if got := r.status(t, appHost, "/members/x", dana); got != http.StatusOK {
		t.Errorf("without the key file a session is answered %d", got)
	}
	if res := keys("status"); res.code != 0 || !strings.Contains(res.stdout, double.key) || strings.Contains(res.stdout, "local:") {
		t.Errorf("keys status: %d %s%s", res.code, res.stdout, res.stderr)
	}
	if got := r.loginStatus(t); got != http.StatusFound {
		t.Errorf("without the key file a sign-in begins with %d", got)
	}
}
