package caddymodule

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

const testARN = "arn:aws:kms:eu-central-1:123456789012:key/0d5ae4c6-12c4-4dba-97fc-ea2d75fbde62"

// awsSettings gives the test credentials and nothing else of this machine's.
func awsSettings(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLEOFATEST00", "AWS_SECRET_ACCESS_KEY": "secret-access-key-of-the-tests", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_KMS": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": t.TempDir() + "/config", "AWS_SHARED_CREDENTIALS_FILE": t.TempDir() + "/credentials",
	} {
		t.Setenv(name, value)
	}
}

// TestMasterLines: what the lines become, and what a wrong one is told.
func TestMasterLines(t *testing.T) {
	b := newBench(t)
	site := "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy 127.0.0.1:9\n}\n"
	config := func(lines string) ([]byte, error) {
		return adapt(t, strings.Replace(b.file("", site), "\t\tsession {", "\t\t"+lines+"\n\t\tsession {", 1))
	}
	for lines, want := range map[string]string{
		"master local":             `{"module":"local","at":"`,
		"master local /etc/a/key":  `"file":"/etc/a/key"`,
		"master awskms " + testARN: `"key":"` + testARN + `"`,
		"master awskms alias/anteroom {\n region eu-central-1\n cache 10m 5000\n}":               `"region":"eu-central-1","cache_age":600000000000,"cache_uses":5000`,
		"master awskms {env.KEY} {\n proxy {file./run/proxy}\n}":                                 `"key":"{env.KEY}","proxy":"{file./run/proxy}"`,
		"master awskms " + testARN + " {\n former local /etc/a/key\n former awskms alias/old\n}": `"former":[{"`,
	} {
		raw, err := config(lines)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		var cfg struct {
			Apps struct {
				Anteroom struct{ Master json.RawMessage }
			}
		}
		if err := json.Unmarshal(raw, &cfg); err != nil {
			t.Fatal(err)
		}
		got := string(cfg.Apps.Anteroom.Master)
		for _, part := range strings.Split(strings.Trim(want, "{}"), ",") {
			if !strings.Contains(got, part) {
				t.Errorf("%s becomes %s, without %s", lines, got, part)
			}
		}
		if !strings.Contains(got, `"at":"Caddyfile:`) {
			t.Errorf("%s: no position in %s", lines, got)
		}
	}
	for lines, want := range map[string][]string{
		"master":                       {"needs a kind", "awskms", "local"},
		"master vault":                 {`unknown kind "vault"`},
		"master local key":             {"absolute path"},
		"master local /a /b":           {"one file"},
		"master local {\n cache 1m\n}": {"want former"},
		"master awskms":                {"takes one key", "alias/NAME"},
		"master awskms a b":            {"takes one key"},
		"master awskms alias/":         {"not the name of a KMS key"},
		"master awskms " + testARN + " {\n region us-east-1\n}":         {"remove the region"},
		"master awskms " + testARN + " {\n endpoint http://kms.test\n}": {"not https"},
		"master awskms " + testARN + " {\n cache 0s\n}":                 {"write an age"},
		"master awskms " + testARN + " {\n cache 90d\n}":                {"write an age"},
		"master awskms " + testARN + " {\n cache 10m 1\n}":              {"at least 100 uses"},
		"master awskms " + testARN + " {\n cache 10m x\n}":              {"not a number"},
		"master awskms " + testARN + " {\n role admin\n}":               {"ARN of a role"},
		"master awskms " + testARN + " {\n password x\n}":               {"want one of region, endpoint"},
		"master awskms " + testARN + " {\n region a\n region b\n}":      {"stands twice"},
		"master local\n\t\tmaster local":                                {`"master" stands twice`},
	} {
		_, err := config(lines)
		if err == nil {
			t.Errorf("%s: it adapts", lines)
			continue
		}
		for _, part := range append(want, "Caddyfile:") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the message lacks %q: %v", lines, part, err)
			}
		}
	}
}

// opened opens a master as a start does.
func opened(t *testing.T, dir string, raw map[string]any) (masters, error) {
	t.Helper()
	var site masterSite
	if raw != nil {
		b, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		site.MasterRaw = b
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := site.provisionMaster(ctx); err != nil {
		t.Fatal(err)
	}
	return site.open(dir)
}

// TestMasterMoves: from a key file to KMS and back, each by what the lines say.
func TestMasterMoves(t *testing.T) {
	awsSettings(t)
	fake := kmstest.NewFake(t)
	dir := t.TempDir()
	aws := map[string]any{"module": "awskms", "key": fake.Key(), "endpoint": fake.URL}
	local, err := opened(t, dir, nil)
	if err != nil || local.wrapper() != nil {
		t.Fatalf("a key file: %v, and it is a ring's recipient: %v", err, local.wrapper() != nil)
	}
	if err := os.WriteFile(filepath.Join(dir, "store.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kms, err := opened(t, dir, aws)
	if err != nil || kms.master.ID() != "awskms:"+fake.Key() || len(kms.former) != 1 || kms.former[0].ID() != local.master.ID() || kms.wrapper() == nil {
		t.Fatalf("KMS after a key file: %+v, %v", kms, err)
	}
	if len(fake.Requests()) != 0 {
		t.Error("a start with an ARN asked KMS")
	}
	if kms.key == local.key || strings.Contains(kms.key, "secret") {
		t.Errorf("settings %q and %q", kms.key, local.key)
	}
	if err := os.Remove(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	if kms, err = opened(t, dir, aws); err != nil || len(kms.former) != 0 {
		t.Fatalf("KMS alone: %+v, %v", kms, err)
	}
	// Back, without saying from where: a new key file would hide that nothing opens.
	if _, err = opened(t, dir, nil); err == nil || !strings.Contains(err.Error(), "former awskms KEY") || exists(filepath.Join(dir, "master.key")) {
		t.Errorf("a key file for a store of another master: %v", err)
	}
	back, err := opened(t, dir, map[string]any{"module": "local", "former": []any{aws}})
	if err != nil || len(back.former) != 1 || back.former[0].ID() != kms.master.ID() {
		t.Fatalf("back to a key file: %+v, %v", back, err)
	}
	// A former key file is never made.
	_, err = opened(t, t.TempDir(), map[string]any{"module": "awskms", "key": fake.Key(), "endpoint": fake.URL, "former": []any{map[string]any{"module": "local", "file": filepath.Join(dir, "absent")}}})
	if err == nil || !strings.Contains(err.Error(), "is missing") || exists(filepath.Join(dir, "absent")) {
		t.Errorf("a former key file that is missing: %v", err)
	}
	fake.Fail(kmstest.Denied)
	if _, err = opened(t, dir, map[string]any{"module": "awskms", "key": kmstest.AliasName, "region": kmstest.Region, "endpoint": fake.URL}); !errors.Is(err, envelope.ErrRefused) {
		t.Errorf("an alias that may not be used: %v", err)
	}
}

// TestMasterNotSwapped: a reload with another master is refused, because the open store would go on with the first.
func TestMasterNotSwapped(t *testing.T) {
	var one, two masterSite
	two.master = &MasterLocal{File: "/etc/other.key"}
	if err := one.same("/d", one.from().Key("/d")); err != nil {
		t.Error(err)
	}
	if err := two.same("/d", one.from().Key("/d")); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("%v", err)
	}
	late := lateWrapper{new(lateStore)}
	if _, err := late.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, envelope.ErrUnavailable) {
		t.Errorf("a ring wrapped before the start: %v", err)
	}
	late.store.set(openStore{Store: store.Store(nil), masters: masters{master: new(envelope.Local)}})
	if _, err := late.Unwrap(t.Context(), []byte("x"), nil); !errors.Is(err, envelope.ErrUnavailable) {
		t.Errorf("a key file as a ring's recipient: %v", err)
	}
}

// TestDoctorMaster: what is wrong with the key is said with what to do.
func TestDoctorMaster(t *testing.T) {
	awsSettings(t)
	fake := kmstest.NewFake(t)
	raw, err := json.Marshal(map[string]any{"module": "awskms", "key": fake.Key(), "endpoint": fake.URL, "at": "Caddyfile:7"})
	if err != nil {
		t.Fatal(err)
	}
	app := &App{masterSite: masterSite{MasterRaw: raw}}
	if all := examineMaster(t.Context(), app); len(all) != 1 || all[0].State != stateOK || !strings.Contains(all[0].What, fake.Key()) {
		t.Errorf("a good key: %+v", all)
	}
	fake.Set(fake.Key(), kmstest.PendingDeletion)
	if all := examineMaster(t.Context(), app); len(all) == 0 || all[0].State != stateFail || !strings.Contains(all[0].Remedy, "cancel-key-deletion") {
		t.Errorf("a key pending deletion: %+v", all)
	}
	app.MasterRaw = json.RawMessage(`{"module":"awskms","key":"alias/x","endpoint":"` + fake.URL + `","at":"Caddyfile:7"}`)
	if all := examineMaster(t.Context(), app); len(all) != 1 || all[0].State != stateFail || !strings.Contains(all[0].What, "Caddyfile:7") || !strings.Contains(all[0].What, "region") {
		t.Errorf("an alias without a region: %+v", all)
	}
	app.MasterRaw = nil
	if all := examineMaster(t.Context(), app); all != nil {
		t.Errorf("a key file: %+v", all)
	}
}

// TestStorageSameMaster: the certificate storage seals with the key in KMS as the store does; a node whose lines name another master
// is told so and writes nothing.
func TestStorageSameMaster(t *testing.T) {
	awsSettings(t)
	fake := kmstest.NewFake(t)
	server := redistest.Standalone(t)
	storage := func(master map[string]any) certmagic.Storage {
		raw, err := json.Marshal(map[string]any{"url": server.URL(), "ca": server.CA, "directory": server.Dir, "master": master})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		t.Cleanup(cancel)
		module, err := ctx.LoadModuleByID("caddy.storage.anteroom_redis", raw)
		if err != nil {
			t.Fatal(err)
		}
		s, err := module.(caddy.StorageConverter).CertMagicStorage()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	aws := map[string]any{"module": "awskms", "key": fake.Key(), "endpoint": fake.URL}
	one := storage(aws)
	if err := one.Store(t.Context(), "a/key", []byte("a private key")); err != nil {
		t.Fatal(err)
	}
	if got, err := storage(aws).Load(t.Context(), "a/key"); err != nil || string(got) != "a private key" {
		t.Errorf("another config with the same lines: %q, %v", got, err)
	}
	other := storage(map[string]any{"module": "awskms", "key": fake.NewKey(), "endpoint": fake.URL})
	if err := other.Store(t.Context(), "b/key", []byte("x")); err == nil || !strings.Contains(err.Error(), "restart Anteroom") {
		t.Errorf("with another master: %v", err)
	}
	if exists(filepath.Join(server.Dir, "master.key")) {
		t.Error("a key file was made")
	}
}
