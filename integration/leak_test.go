package integration

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// leakConfig has all that writes: the log at DEBUG, access logs, metrics, tracing, and an application behind each site, behind
// that of the services for local applications too.
var leakConfig = strings.NewReplacer("skip_install_trust", "skip_install_trust\n\tmetrics {\n\t\tper_host\n\t}").Replace(`{`+hallGlobals) + `
	anteroom {
		$MASTER` + hospital + `
	}
}

app.test:$PORT {
	tls $CERT $KEY
	log
	tracing {
		span app
	}
	anteroom {
		allow public /public/**
		allow any /members/**
	}
	reverse_proxy $DUMP
}

localhost:$PORT {
	tls $CERT $KEY
	log {
		output file $DIR/access.log
		level DEBUG
	}
	tracing {
		span services
	}
	hmac_service {
		ring passwords
		token_file $DIR/hmac.token
		$RECOVERY_LINE
		compat
		limit 200 burst 8192
	}
	envelope_service {
		token_file $DIR/envelope.token
	}
	reverse_proxy $DUMP
}
`

// leak is the test: what it planted, and what it collected.
type leak struct {
	*rig
	secrets *needles
	hay     haystack
	client  *http.Client
	say     map[string]string // the planted words

	mu    sync.Mutex // guards spans
	spans bytes.Buffer
}

// mayStand are the places of what is no file of its own: an application's own credential is passed on to it, and a record that
// cannot be read is given back, for whoever gave it.
var mayStand = map[string][]string{
	"application's token": {"what the application received"}, "misplaced": {"/records", "the output of keys ring upgrade"},
}

// newLeak makes a rig with secrets of its own.
func newLeak(t *testing.T, master string, environment ...string) *leak {
	t.Helper()
	l := &leak{rig: prepare(t, "", "MASTER", master), secrets: newNeedles(), hay: haystack{}, say: map[string]string{}}
	for _, name := range []string{"password", "wrong password", "gesture", "uid's secret", "plaintext", "stream", "wrong token", "application's token", "misplaced"} {
		// Characters that are escaped in one place or another stand between letters that are not.
		l.say[name] = random62(20) + "\"<" + random62(8) + "ü" + random62(8) + " %" + random62(8) + "&\\" + random62(8)
		if strings.HasSuffix(name, " token") {
			l.say[name] = random62(41) // for a header
		}
		l.secrets.plant(t, name, []byte(l.say[name]), mayStand[name]...)
	}
	for _, service := range []string{"hmac", "envelope"} {
		l.say[service+" token"] = random62(48)
		l.secrets.plant(t, service+" token", []byte(l.say[service+" token"]), "/"+service+".token")
		write(t, filepath.Join(l.dir, service+".token"), l.say[service+" token"]+"\n")
	}
	l.secrets.plant(t, "client secret", []byte(clientSecret), "/oidc.secret")
	l.plantKey(t)
	recovery := filepath.Join(l.dir, "recovery.key")
	made := l.tool(t, "keys", "ring", "recovery-key", "--out", recovery)
	l.names["$RECOVERY_LINE"] = "recovery " + strings.TrimSpace(made.stdout)
	half := l.recoverySecret(t)
	l.say["recovery"] = "ANTEROOM-RECOVERY-SECRET-X25519:" + base64.RawURLEncoding.EncodeToString(half)
	l.secrets.plant(t, "recovery key", half, "/recovery.key")
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.spans.Write(b)
	}))
	t.Cleanup(collector.Close)
	l.environment = append(environment, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=100", "GOTRACEBACK=all")
	l.client = l.streamClient(t)
	l.client.Timeout = patience
	return l
}

func random62(n int) string {
	const letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}

// tool runs a subcommand and keeps what it prints.
func (l *leak) tool(t testing.TB, args ...string) result {
	t.Helper()
	res := output(t, l.env(), append([]string{binary(t, "anteroom")}, args...)...)
	l.hay.add("the output of "+strings.Join(args[:min(3, len(args))], " "), []byte(res.stdout+"\n"+res.stderr))
	return res
}

// ask is one request; the answer is searched, unless it is the secret that was asked for.
func (l *leak) ask(t testing.TB, want int, method, path, token, kind string, body []byte, headers ...string) []byte {
	t.Helper()
	req, err := http.NewRequest(method, l.hmacURL(path), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := l.client.Do(req)
	if err != nil {
		if want == 0 {
			return nil
		}
		t.Fatalf("%s %.60s: %.80v", method, path, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if want > 0 && (err != nil || res.StatusCode != want) {
		t.Errorf("%s %.60s: %d, want %d: %.200s", method, path, res.StatusCode, want, answer)
	}
	if res.StatusCode != http.StatusOK || !strings.Contains(path, "/open") {
		l.hay.add("answers of the services", answer)
		l.hay.add("answers of the services", []byte(fmt.Sprint(res.Header)))
	}
	return answer
}

func (l *leak) hmac(t testing.TB, want int, verb string, in any) []byte {
	return l.ask(t, want, "POST", "/hmac-service/v1/"+verb, "Bearer "+l.say["hmac token"], "application/json", []byte(mustJSON(in)))
}

func (l *leak) seal(t testing.TB, want int, verb string, in any) []byte {
	return l.ask(t, want, "POST", "/envelope-service/v1/"+verb, "Bearer "+l.say["envelope token"], "application/json", []byte(mustJSON(in)))
}

// TestA159NothingLeaks plants secrets and keys, drives every endpoint, every error and every command with all that writes switched on, and
// looks for the secrets in everything that was written, answered or passed on (row 159).
func TestA159NothingLeaks(t *testing.T) {
	t.Parallel()
	t.Run("with KMS", func(t *testing.T) {
		t.Parallel()
		fake, double := fakeKMS(t)
		l := newLeak(t, double.lines())
		l.awsSecrets(t)
		l.configure(t, leakConfig)
		l.run(t)
		l.drive(t)
		l.misplace(t, []string{"--address", l.adminSocket()})
		l.driveKMS(t, fake)
		l.finish(t)
		for i, key := range fake.Plain() {
			l.secrets.plant(t, fmt.Sprint("data key ", i), key)
		}
		for _, q := range fake.Requests() { // what was wrapped: the ring's file key, and data keys again
			var in struct{ Plaintext []byte }
			if json.Unmarshal([]byte(q.Body), &in) == nil && len(in.Plaintext) >= window {
				l.secrets.plant(t, "what KMS wrapped", in.Plaintext)
			}
		}
		l.judge(t)
	})
	t.Run("with a key file", func(t *testing.T) {
		t.Parallel()
		l := newLeak(t, "master local")
		l.configure(t, leakConfig)
		l.run(t)
		l.drive(t)
		l.plantRing(t)
		l.driveLocked(t)
		l.finish(t)
		l.plantSeeds(t)
		l.judge(t)
	})
}

// awsSecrets gives the process credentials of its own.
func (l *leak) awsSecrets(t *testing.T) {
	t.Helper()
	key, session := random62(40), random62(60)
	l.secrets.plant(t, "AWS secret access key", []byte(key))
	l.secrets.plant(t, "AWS session token", []byte(session))
	l.environment = append(l.environment, "AWS_ACCESS_KEY_ID=AKIDEXAMPLEOFATEST00", "AWS_SECRET_ACCESS_KEY="+key, "AWS_SESSION_TOKEN="+session,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PROFILE=", "AWS_REGION=", "AWS_ENDPOINT_URL=", "AWS_ENDPOINT_URL_KMS=",
		"AWS_CONFIG_FILE="+l.dir+"/absent", "AWS_SHARED_CREDENTIALS_FILE="+l.dir+"/absent")
}

// drive is what both ways have in common.
func (l *leak) drive(t *testing.T) {
	t.Helper()
	l.drivePasswords(t)
	l.driveSealing(t)
	l.driveSignIn(t)
	l.driveCommands(t)
	if res := l.reload(t, leakConfig); res.code != 0 {
		t.Errorf("reload: %s%s", res.stdout, res.stderr)
	}
	l.driveSealing(t)
}

func object(pairs ...any) map[string]any {
	o := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		o[pairs[i].(string)] = pairs[i+1]
	}
	return o
}

// drivePasswords asks everything of hmac_service, rightly and in every wrong way.
func (l *leak) drivePasswords(t *testing.T) {
	t.Helper()
	uid, password, wrong, misplaced := l.say["uid's secret"], l.say["password"], l.say["wrong password"], l.say["misplaced"]
	item := object("uid", uid, "secret", password)
	var made struct{ Items []struct{ Record string } }
	if err := json.Unmarshal(l.hmac(t, 200, "protect", object("items", []any{item, object("uid", uid, "secret", wrong, "slow", false)})), &made); err != nil || len(made.Items) != 2 {
		t.Fatalf("protect: %v", err)
	}
	record := made.Items[0].Record
	var set struct{ Record string }
	if err := json.Unmarshal(l.hmac(t, 200, "protect", object("uid", uid, "set", []string{l.say["gesture"], l.say["gesture"] + "2"}, "pad", 64)), &set); err != nil {
		t.Fatal(err)
	}
	l.hmac(t, 200, "verify", object("uid", uid, "secret", password, "record", record, "source", misplaced))
	l.hmac(t, 200, "verify", object("uid", uid, "secret", l.say["gesture"], "record", set.Record))
	l.hmac(t, 200, "verify", object("uid", uid, "secret", wrong, "record", "-"))
	l.hmac(t, 200, "upgrade", object("records", []string{record, set.Record, misplaced}))
	l.hmac(t, 200, "census", object("records", []string{record, misplaced}, "done", true))
	l.hmac(t, 200, "status", object())
	lines := uid + "\tlogin\t" + base64.RawURLEncoding.EncodeToString([]byte(password)) + "\n" + misplaced + "\n" + uid + "\t" + misplaced + "\t\n"
	for _, verb := range []string{"protect", "upgrade", "census"} {
		l.ask(t, 0, "POST", "/hmac-service/v1/"+verb, "Bearer "+l.say["hmac token"], "text/plain", []byte(lines))
	}
	for range 12 { // the back-off
		l.hmac(t, 0, "verify", object("uid", uid, "secret", wrong, "record", record, "source", "x"))
	}
	for _, in := range []any{
		object("items", []any{object("uid", 1, "secret", password)}), object("items", []any{object("uid", uid, "secret", object(password, 1))}), object(password, 1),
		object("items", []any{object("uid", uid, "secret", password, misplaced, 1)}), object("items", []any{object("uid", strings.Repeat(uid, 20), "secret", password)}),
		object("items", []any{object("uid", uid, "secret", strings.Repeat(password, 500))}), object("items", []any{object("uid", uid, "secret", password, "context", misplaced)}),
		object("uid", uid, "set", []any{1, l.say["gesture"]}), object("uid", uid, "set", []string{l.say["gesture"]}, "pad", 5000), []any{password}, password,
		object("uid", uid, "secret", password, "record", misplaced), object("uid", uid, "secret", password, "record", strings.Replace(record, "l=p1", "l=p9", 1)),
		object("uid", uid, "secret", password, "record", record+misplaced),
	} {
		for _, verb := range []string{"protect", "verify", "upgrade", "census", "status"} {
			l.hmac(t, 0, verb, in)
		}
	}
	body, path := []byte(mustJSON(object("items", []any{item}))), "/hmac-service/v1/protect"
	l.ask(t, 400, "POST", path, "Bearer "+l.say["hmac token"], "application/json", body[:len(body)-8])
	l.ask(t, 413, "POST", path, "Bearer "+l.say["hmac token"], "application/json", append(body[:len(body)-8:len(body)-8], bytes.Repeat([]byte(password), 5<<20/len(password))...))
	l.ask(t, 415, "POST", path, "Bearer "+l.say["hmac token"], "text/html; x="+url.QueryEscape(misplaced), body)
	l.misuse(t, path, body)
	query := url.QueryEscape(password)
	l.ask(t, 200, "GET", "/hmac-service?"+query+"&3", "", "", nil)
	for _, more := range []string{"&1e3", "&100001", "&0x10", "&1&1", "%zz&1", "&" + query, strings.Repeat(query, 120), "#" + query} {
		l.ask(t, 0, "GET", "/hmac-service?"+query+more, "", "", nil)
	}
	for _, method := range []string{"POST", "PUT", "HEAD", "OPTIONS", "PROPFIND"} {
		l.ask(t, 0, method, "/hmac-service?"+query+"&3", "", "", []byte(password))
	}
	for range 3 { // more work than there is
		l.hmac(t, 0, "protect", object("uid", uid, "set", []string{l.say["gesture"]}, "pad", 4096))
	}
}

// misuse sends a body that is right in every way that is not.
func (l *leak) misuse(t *testing.T, path string, body []byte) {
	t.Helper()
	right, other := "Bearer "+l.say["hmac token"], "Bearer "+l.say["envelope token"]
	if strings.HasPrefix(path, "/envelope") {
		right, other = other, right
	}
	wrong, misplaced := l.say["wrong token"], url.QueryEscape(l.say["misplaced"])
	for _, token := range []string{"", "Bearer " + wrong, other, "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+wrong)), wrong, right + wrong, "bearer  " + wrong} {
		l.ask(t, 401, "POST", path, token, "application/json", body)
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"} {
		l.ask(t, 0, method, path, right, "application/json", body)
	}
	for _, header := range [][]string{{"Via", "1.1 proxy"}, {"X-Forwarded-For", "127.0.0.1"}, {"Forwarded", "for=127.0.0.1"}, {"Origin", "https://localhost"}, {"Cookie", "a=" + wrong}, {"Sec-Fetch-Site", "none"}} {
		l.ask(t, 404, "POST", path, right, "application/json", body, header...)
		if strings.HasPrefix(path, "/hmac") {
			l.ask(t, 404, "GET", "/hmac-service?"+url.QueryEscape(l.say["password"])+"&3", "", "", nil, header...)
		}
	}
	service := path[:strings.Index(path, "/v1")]
	for _, p := range []string{path + "?" + misplaced, path + "?x=" + misplaced, path + "/" + misplaced, service + "/v2/protect", service + "/v1/nothing?" + misplaced, service + "/", service + "/" + misplaced, strings.Replace(path, "/v1/", "//v1/", 1)} {
		l.ask(t, 0, "POST", p, right, "application/json", body)
		l.ask(t, 0, "GET", p, right, "", nil)
	}
}

// driveSealing does the same with envelope_service.
func (l *leak) driveSealing(t *testing.T) {
	t.Helper()
	plain, misplaced := base64.StdEncoding.EncodeToString([]byte(l.say["plaintext"])), l.say["misplaced"]
	var sealed struct{ Items []struct{ Sealed string } }
	if err := json.Unmarshal(l.seal(t, 200, "seal", batch("purpose", "notes", "id", "1", "plaintext", plain)), &sealed); err != nil || len(sealed.Items) != 1 {
		t.Fatalf("seal: %v", err)
	}
	value := sealed.Items[0].Sealed
	if got := l.seal(t, 200, "open", batch("purpose", "notes", "id", "1", "sealed", value)); !bytes.Contains(got, []byte(plain)) {
		t.Fatal("the plaintext does not come back")
	}
	l.seal(t, 200, "reseal", batch("purpose", "notes", "id", "1", "sealed", value))
	l.seal(t, 200, "keys", object())
	l.seal(t, 200, "census", object("sealed", []string{value, plain}))
	for _, in := range []any{
		batch("purpose", "notes", "id", "2", "sealed", value), batch("purpose", "notes", "id", "1", "sealed", plain), batch("purpose", "notes", "id", "1", "sealed", misplaced),
		batch("purpose", "notes", "id", "1", "plaintext", misplaced), batch("purpose", "notes", "plaintext", plain), batch(misplaced, "x"), batch("purpose", strings.Repeat(misplaced, 20), "id", "1", "plaintext", plain),
		object("items", []any{object("purpose", 1, "plaintext", plain)}), object("sealed", plain), object(misplaced, 1), plain,
	} {
		for _, verb := range []string{"seal", "open", "reseal", "keys", "census"} {
			if verb != "open" {
				l.seal(t, 0, verb, in)
				continue
			}
			l.hay.add("answers of open to what is wrong", l.seal(t, 0, verb, in))
		}
	}
	body := []byte(mustJSON(batch("purpose", "notes", "id", "1", "plaintext", plain)))
	l.ask(t, 413, "POST", "/envelope-service/v1/seal", "Bearer "+l.say["envelope token"], "application/json", append(body[:len(body)-8:len(body)-8], bytes.Repeat([]byte(plain), 9<<20/len(plain))...))
	l.misuse(t, "/envelope-service/v1/seal", body)
	document := bytes.Repeat([]byte(l.say["stream"]), 300<<10/len(l.say["stream"]))
	stream := func(want int, op string, in []byte) []byte {
		return l.ask(t, want, "POST", "/envelope-service/v1/stream/"+op, "Bearer "+l.say["envelope token"], "application/octet-stream", in)
	}
	kept := stream(200, "seal?purpose=images&id=1", document)
	if got := stream(200, "open?purpose=images&id=1", kept); !bytes.Equal(got, document) {
		t.Fatalf("the document does not come back: %d bytes", len(got))
	}
	stream(200, "reseal?purpose=images&id=1", kept)
	kept[len(kept)/2] ^= 1
	for _, op := range []string{"open?purpose=images&id=1", "open?purpose=images&id=2", "reseal?purpose=images&id=1", "open?purpose=images&id=1&first=x", "open?purpose=images&id=1&first=9"} {
		stream(0, op, kept)
		l.hay.add("answers of stream/open to clear text", stream(0, op, document))
	}
	for _, op := range []string{"seal?purpose=images&" + url.QueryEscape(misplaced), "seal?purpose=" + url.QueryEscape(misplaced) + "%zz", "nothing?" + url.QueryEscape(misplaced)} {
		stream(0, op, document)
	}
}
