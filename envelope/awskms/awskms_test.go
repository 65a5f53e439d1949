package awskms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
	"github.com/anteroom-proxy/anteroom/envelope/mastertest"
)

const (
	accessKey = "AKIDEXAMPLEOFATEST00"
	secretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	token     = "session-token-that-nobody-may-see-0123456789"
)

// settings gives the test AWS credentials and no other AWS settings.
func settings(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL_STS",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	t.Setenv("AWS_ACCESS_KEY_ID", accessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secretKey)
	t.Setenv("AWS_SESSION_TOKEN", token)
}

func open(t *testing.T, cfg Config) *Master {
	t.Helper()
	m, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func fakeBackend(t *testing.T) (mastertest.Backend, *kmstest.Fake) {
	settings(t)
	fake := kmstest.NewFake(t)
	const limit = time.Second
	return mastertest.Backend{
		Open: func(t *testing.T) envelope.Master {
			return open(t, Config{Key: fake.Key(), Endpoint: fake.URL, Timeout: limit})
		},
		Limit:    limit,
		Slow:     fake.Slow,
		Down:     func() { fake.Fail(kmstest.Down) },
		Hang:     func() { fake.Fail(kmstest.Hangs) },
		Throttle: func() { fake.Fail(kmstest.Throttled) },
		Break:    func() { fake.Fail(kmstest.Broken) },
		Deny:     func() { fake.Fail(kmstest.Denied) },
		Disable:  func() { fake.Set(fake.Key(), kmstest.Disabled) },
		Delete:   func() { fake.Set(fake.Key(), kmstest.PendingDeletion) },
		Heal:     func() { fake.Fail(kmstest.None); fake.Slow(0); fake.Set(fake.Key(), kmstest.Enabled) },
		Rotate:   func() { fake.Rotate(fake.Key()) },
	}, fake
}

func motoBackend(t *testing.T) mastertest.Backend {
	settings(t)
	moto := kmstest.StartMoto(t)
	return mastertest.Backend{
		Open: func(t *testing.T) envelope.Master {
			return open(t, Config{Key: moto.Key(), Endpoint: moto.URL, Timeout: 2 * time.Second})
		},
		Limit: 2 * time.Second,
		Joins: true,
		Hang:  moto.Freeze, Heal: moto.Thaw,
	}
}

func TestFake(t *testing.T) {
	b, _ := fakeBackend(t)
	mastertest.Run(t, b)
	mastertest.RunEnvelope(t, b)
}

func TestMoto(t *testing.T) {
	b := motoBackend(t)
	mastertest.Run(t, b)
	mastertest.RunEnvelope(t, b)
}

// TestRow157Remedies: each refusal tells the operator what to write where.
func TestRow157Remedies(t *testing.T) {
	b, fake := fakeBackend(t)
	m := b.Open(t)
	_, wrapped, err := m.Generate(t.Context(), map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		begin func()
		kind  error
		words []string
	}{
		{"disabled", func() { fake.Set(fake.Key(), kmstest.Disabled) }, envelope.ErrRefused, []string{"aws kms enable-key --key-id " + fake.Key()}},
		{"pending deletion", func() { fake.Set(fake.Key(), kmstest.PendingDeletion) }, envelope.ErrRefused, []string{"aws kms cancel-key-deletion --key-id " + fake.Key(), "enable-key"}},
		{"unavailable", func() { fake.Set(fake.Key(), kmstest.Unavailable) }, envelope.ErrUnavailable, []string{"aws kms describe-key"}},
		{"gone", func() { fake.Set(fake.Key(), kmstest.Deleted) }, envelope.ErrRefused, []string{"no such key in region " + kmstest.Region}},
		{"denied", func() { fake.Fail(kmstest.Denied) }, envelope.ErrRefused, []string{"kms:Decrypt", kmstest.Principal}},
		{"expired", func() { fake.Fail(kmstest.Expired) }, envelope.ErrRefused, []string{"ExpiredTokenException", "clock"}},
		{"signature", func() { fake.Fail(kmstest.Signature) }, envelope.ErrRefused, []string{"SignatureDoesNotMatch", "clock"}},
		{"throttled", func() { fake.Fail(kmstest.Throttled) }, envelope.ErrUnavailable, []string{"quota"}},
		{"no KMS", func() { fake.Fail(kmstest.NotKMS) }, envelope.ErrUnavailable, []string{"status 503"}},
		{"nonsense", func() { fake.Fail(kmstest.Nonsense) }, envelope.ErrUnavailable, []string{"not what KMS answers"}},
		{"hanging", func() { fake.Fail(kmstest.Hangs) }, envelope.ErrUnavailable, []string{"no answer within 1s", "HTTPS_PROXY"}},
	} {
		test.begin()
		_, err := m.Unwrap(t.Context(), wrapped, map[string]string{"a": "b"})
		b.Heal()
		if !errors.Is(err, test.kind) {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		for _, word := range test.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the message lacks %q: %v", test.name, word, err)
			}
		}
		for _, secret := range []string{accessKey, secretKey, token, "Credential="} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the message shows %q: %v", test.name, secret, err)
			}
		}
	}
}

// TestRow154EveryCallNamesKeyAndContext: a value that another key wrapped, or for another place, must not open.
func TestRow154EveryCallNamesKeyAndContext(t *testing.T) {
	b, fake := fakeBackend(t)
	m := b.Open(t)
	about := map[string]string{"service": "anteroom", "purpose": "data-key"}
	plain, wrapped, err := m.Generate(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = m.Wrap(t.Context(), plain, about)
	_, _ = m.Rewrap(t.Context(), wrapped, about)
	_, _ = m.Unwrap(t.Context(), wrapped, about)
	asked := fake.Requests()
	if len(asked) != 4 {
		t.Fatalf("%d requests", len(asked))
	}
	for _, r := range asked {
		if r.Key != fake.Key() || r.Context["purpose"] != "data-key" || len(r.Context) != 2 {
			t.Errorf("%s names key %q and context %v", r.Operation, r.Key, r.Context)
		}
		if !strings.HasPrefix(r.Scope, accessKey+"/") || !strings.HasSuffix(r.Scope, "/"+kmstest.Region+"/kms/aws4_request") {
			t.Errorf("%s is signed for %s", r.Operation, r.Scope)
		}
	}
	for _, none := range []map[string]string{nil, {}, {"service": ""}} {
		if _, _, err := m.Generate(t.Context(), none); err == nil {
			t.Errorf("a key was made with the context %v", none)
		}
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("KMS was asked %d times without a context", n)
	}
	// Another key of the account: an attacker who may use one there must not be able to plant values.
	other := open(t, Config{Key: fake.NewKey(), Endpoint: fake.URL})
	_, planted, err := other.Generate(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.Unwrap(t.Context(), planted, about); !errors.Is(err, envelope.ErrSealed) || got != nil {
		t.Errorf("a value of another key opens: %v", err)
	}
	if _, err := m.Rewrap(t.Context(), planted, about); !errors.Is(err, envelope.ErrSealed) {
		t.Errorf("a value of another key is re-wrapped: %v", err)
	}
}

// TestRow155Rotation: KMS' own rotation leaves what is wrapped usable, and Rewrap brings it under the new material.
func TestRow155Rotation(t *testing.T) {
	b, fake := fakeBackend(t)
	m := b.Open(t)
	about := map[string]string{"service": "anteroom"}
	plain, wrapped, err := m.Generate(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	fake.Rotate(fake.Key())
	fake.Requests()
	again, err := m.Rewrap(t.Context(), wrapped, about)
	if err != nil || fake.Material(wrapped) != 0 || fake.Material(again) != 1 {
		t.Fatalf("material %d became %d, %v", fake.Material(wrapped), fake.Material(again), err)
	}
	for _, r := range fake.Requests() {
		if r.Operation != "ReEncrypt" {
			t.Errorf("re-wrapping called %s: the key left KMS", r.Operation)
		}
	}
	for _, w := range [][]byte{wrapped, again} {
		if got, err := m.Unwrap(t.Context(), w, about); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("after the rotation: %v", err)
		}
	}
}

// TestPlaintextStays: a data key is in a request of Encrypt, and in no other, no log line and no way of printing.
func TestPlaintextStays(t *testing.T) {
	b, fake := fakeBackend(t)
	_ = b
	var log bytes.Buffer
	m := open(t, Config{Key: fake.Key(), Endpoint: fake.URL, Timeout: time.Second, Proxy: "",
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	about := map[string]string{"service": "anteroom"}
	plain, wrapped, err := m.Generate(t.Context(), about)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for _, f := range []kmstest.Fault{kmstest.None, kmstest.Signature, kmstest.Denied, kmstest.Broken, kmstest.Nonsense, kmstest.Down} {
		fake.Fail(f)
		_, err1 := m.Unwrap(t.Context(), wrapped, about)
		_, err2 := m.Wrap(t.Context(), plain, about)
		_, err3 := m.Rewrap(t.Context(), wrapped, about)
		fmt.Fprintln(&said, err1, err2, err3)
	}
	fmt.Fprintf(&said, "%v %+v %#v %s %x %d", m, m, m, m, m, m)
	said.WriteString(log.String())
	if !strings.Contains(log.String(), "AWS KMS does not answer") {
		t.Errorf("the log lacks the failure: %s", log.String())
	}
	b64 := base64.StdEncoding.EncodeToString(plain)
	for _, secret := range []string{string(plain), b64, hex.EncodeToString(plain), base64.RawURLEncoding.EncodeToString(plain), secretKey, token, accessKey} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("%q was said", secret)
		}
	}
	for _, r := range fake.Requests() {
		if strings.Contains(r.Body, b64) != (r.Operation == "Encrypt") {
			t.Errorf("%s: the plaintext is in it: %v", r.Operation, r.Operation != "Encrypt")
		}
	}
}

// TestAlias: the ARN stands for the alias from the start on, with the right to DescribeKey and without.
func TestAlias(t *testing.T) {
	_, fake := fakeBackend(t)
	id := fake.Key()[strings.Index(fake.Key(), "/")+1:]
	for _, name := range []string{kmstest.AliasName, id} {
		for _, denied := range []bool{false, true} {
			if denied {
				fake.Fail(kmstest.Denied, "DescribeKey")
			}
			m := open(t, Config{Key: name, Region: kmstest.Region, Endpoint: fake.URL})
			fake.Fail(kmstest.None)
			if m.ID() != "awskms:"+fake.Key() {
				t.Errorf("%s is %s", name, m.ID())
			}
		}
	}
	fake.Fail(kmstest.Down)
	if _, err := New(t.Context(), Config{Key: kmstest.AliasName, Region: kmstest.Region, Endpoint: fake.URL, Timeout: time.Second}); !errors.Is(err, envelope.ErrUnavailable) {
		t.Errorf("an alias while KMS is down: %v", err)
	}
	// With an ARN nothing is asked, so that a start needs no KMS.
	fake.Requests()
	if m := open(t, Config{Key: fake.Key(), Endpoint: fake.URL}); m.ID() != "awskms:"+fake.Key() || len(fake.Requests()) != 0 {
		t.Errorf("%s, after requests", m.ID())
	}
}

func TestCheck(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:123456789012:key/0d5ae4c6-12c4-4dba-97fc-ea2d75fbde62"
	for _, good := range []Config{
		{Key: arn}, {Key: arn, Region: "eu-central-1"}, {Key: "alias/anteroom"}, {Key: "mrk-1234abcd12ab34cd56ef1234567890ab"},
		{Key: "arn:aws-cn:kms:cn-north-1:123456789012:alias/a/b"}, {Key: arn, Endpoint: "http://127.0.0.1:1"}, {Key: arn, Endpoint: "http://[::1]:1"},
		{Key: arn, Endpoint: "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"}, {Key: arn, Role: "arn:aws:iam::123456789012:role/path/x"}, {Key: arn, Proxy: "http://u:p@proxy:3128"},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "not the name of a KMS key"}, {Config{Key: "alias/"}, "not the name"}, {Config{Key: "key/x"}, "not the name"}, {Config{Key: "a b"}, "not the name"},
		{Config{Key: "arn:aws:kms:eu-central-1:123456789012:x"}, "not the name"}, {Config{Key: "arn:aws:s3:::bucket"}, "not the name"},
		{Config{Key: arn, Region: "us-east-1"}, "remove the region"}, {Config{Key: arn, Role: "admin"}, "ARN of a role"},
		{Config{Key: arn, Endpoint: "http://kms.example"}, "not https"}, {Config{Key: arn, Endpoint: "http://127.0.0.1.example"}, "not https"},
		{Config{Key: arn, Endpoint: "https://u:p@kms.example"}, "user"}, {Config{Key: arn, Endpoint: "kms.example"}, "not a URL"},
		{Config{Key: arn, Proxy: "://u:topsecret@x"}, "proxy is not a URL"},
	} {
		err := bad.cfg.Check()
		if err == nil || !strings.Contains(err.Error(), bad.want) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%+v: %v, want %q", bad.cfg, err, bad.want)
		}
	}
}

// TestEnvironment: endpoint and region come from where AWS' own tools take them, and a way without TLS is refused there too.
func TestEnvironment(t *testing.T) {
	_, fake := fakeBackend(t)
	t.Setenv("AWS_REGION", kmstest.Region)
	t.Setenv("AWS_ENDPOINT_URL_KMS", fake.URL)
	if m := open(t, Config{Key: kmstest.AliasName}); m.ID() != "awskms:"+fake.Key() {
		t.Errorf("%s", m.ID())
	}
	t.Setenv("AWS_ENDPOINT_URL_KMS", "http://kms.example.test")
	if _, err := New(t.Context(), Config{Key: fake.Key()}); err == nil || !strings.Contains(err.Error(), "not https") {
		t.Errorf("an endpoint in the clear: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_KMS", fake.URL)
	t.Setenv("AWS_REGION", "")
	if _, err := New(t.Context(), Config{Key: kmstest.AliasName}); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
	if _, err := New(t.Context(), Config{Key: fake.Key(), Profile: "nobody"}); err == nil || !strings.Contains(err.Error(), `no profile "nobody"`) {
		t.Errorf("a profile that is not there: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	m := open(t, Config{Key: fake.Key(), Timeout: time.Second})
	if _, _, err := m.Generate(t.Context(), map[string]string{"a": "b"}); !errors.Is(err, envelope.ErrUnavailable) || !strings.Contains(err.Error(), "aws sts get-caller-identity") {
		t.Errorf("without credentials: %v", err)
	}
}

// TestProxy: the proxy is used for KMS, and its password is not said when it fails.
func TestProxy(t *testing.T) {
	settings(t)
	var asked atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect && r.Host == "kms.eu-central-1.amazonaws.com:443" {
			asked.Add(1)
		}
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	const arn = "arn:aws:kms:eu-central-1:123456789012:key/0d5ae4c6-12c4-4dba-97fc-ea2d75fbde62"
	m := open(t, Config{Key: arn, Proxy: strings.Replace(proxy.URL, "http://", "http://user:topsecret@", 1), Timeout: time.Second})
	_, _, err := m.Generate(t.Context(), map[string]string{"a": "b"})
	if asked.Load() == 0 || !errors.Is(err, envelope.ErrUnavailable) || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "169.254.169.254": true, "fd00:ec2::254": true, "kms.example": false, "10.0.0.1": false} {
		if near(host) != want {
			t.Errorf("near(%s) = %v", host, !want)
		}
	}
}

// TestWrongAnswer: an answer of another key is none.
func TestWrongAnswer(t *testing.T) {
	_, fake := fakeBackend(t)
	m := open(t, Config{Key: fake.Key(), Endpoint: fake.URL, Timeout: time.Second})
	m.key = kmstest.AliasName // the answer names the ARN
	if plain, _, err := m.Generate(context.Background(), map[string]string{"a": "b"}); err == nil || plain != nil {
		t.Errorf("the answer of another key: %d bytes, %v", len(plain), err)
	}
}

func TestDiagnose(t *testing.T) {
	b, fake := fakeBackend(t)
	m := b.Open(t).(*Master)
	if all := m.Diagnose(t.Context()); len(all) != 1 || !all[0].OK {
		t.Errorf("a good key: %+v", all)
	}
	for _, test := range []struct {
		begin func()
		want  string
	}{
		{func() { fake.Set(fake.Key(), kmstest.PendingDeletion) }, "will be deleted at 2030-01-02"},
		{func() { fake.Set(fake.Key(), kmstest.Disabled) }, "is disabled"},
		{func() { fake.Fail(kmstest.Denied, "ReEncrypt") }, "kms:ReEncryptFrom"},
		{func() { fake.Fail(kmstest.Denied, "Encrypt") }, "kms:Encrypt"},
		{func() { fake.Fail(kmstest.Down) }, "see the network"},
	} {
		test.begin()
		all := fmt.Sprintf("%+v", m.Diagnose(t.Context()))
		b.Heal()
		if !strings.Contains(all, test.want) || strings.Contains(all, "OK:true") {
			t.Errorf("want %q: %s", test.want, all)
		}
	}
	fake.Fail(kmstest.Denied, "DescribeKey") // is not needed
	if all := m.Diagnose(t.Context()); len(all) != 1 || !all[0].OK {
		t.Errorf("without the right to DescribeKey: %+v", all)
	}
}
