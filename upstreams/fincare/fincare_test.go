package fincare

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

var clock = time.Date(2031, 3, 5, 10, 0, 0, 0, time.UTC)

func start(t *testing.T, dir string) http.Handler {
	t.Helper()
	h, err := New(Config{Dir: dir, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func send(h http.Handler, method, path, ctype, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if ctype != "" {
		r.Header.Set("Content-Type", ctype)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(h http.Handler, path string) *httptest.ResponseRecorder { return send(h, "GET", path, "", "") }

func post(h http.Handler, path string, form url.Values) *httptest.ResponseRecorder {
	return send(h, "POST", path, "application/x-www-form-urlencoded", form.Encode())
}

func api(h http.Handler, path, body string) *httptest.ResponseRecorder {
	return send(h, "POST", path, "application/json", body)
}

// want reports an answer of another status, or one without the text.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), text) {
		t.Errorf("got %d, want %d with %q:\n%s", w.Code, status, text, w.Body)
	}
}

// issue makes an invoice of 100.00 for p1001 and returns its identifier.
func issue(t *testing.T, h http.Handler) string {
	t.Helper()
	var v Invoice
	w := api(h, "/api/invoices", `{"patient":"p1001","text":"Consultation","cents":10000}`)
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 201 || v.ID == "" {
		t.Fatalf("issuing an invoice: %d %v %s", w.Code, err, w.Body)
	}
	return v.ID
}

func view(t *testing.T, h http.Handler, id string) (v View) {
	t.Helper()
	if err := json.Unmarshal(get(h, "/api/invoices/"+id).Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPages(t *testing.T) {
	h := start(t, t.TempDir())
	for _, path := range []string{"/", "/invoices", "/?status=overdue", "/invoices/inv2001", "/payments", "/claims"} {
		w := get(h, path)
		want(t, w, 200, "FinCare")
		if strings.Contains(w.Body.String(), `name="username"`) || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%s: a field called username, or a script", path)
		}
	}
	want(t, get(h, "/invoices/inv1"), 404, "no such invoice")
	want(t, get(h, "/nothing"), 404, "nothing at this address")
	want(t, send(h, "POST", "/payments", "", ""), 405, "POST")
}

func TestFormsPersist(t *testing.T) {
	dir := t.TempDir()
	h := start(t, dir)
	w := post(h, "/invoices", url.Values{"patient": {"p1002"}, "text": {"<i>Plaster</i>"}, "amount": {"80.5"}})
	want(t, w, 303, "")
	path, _, _ := strings.Cut(w.Header().Get("Location"), "?")
	want(t, post(h, path+"/payments", url.Values{"amount": {"30"}, "method": {"cash"}}), 303, "")
	want(t, post(h, path+"/claims", url.Values{"amount": {"50.50"}}), 303, "")

	h = start(t, dir)
	page := get(h, path+"?done=claimed").Body.String()
	for _, s := range []string{"&lt;i&gt;Plaster&lt;/i&gt;", "80.50", "30.00", "50.50", "part paid", "submitted", "The claim is submitted."} {
		if !strings.Contains(page, s) {
			t.Errorf("after the restart the page lacks %q", s)
		}
	}
}

func TestAmounts(t *testing.T) {
	for in, cents := range map[string]int64{"0.01": 1, "12": 1200, "12.5": 1250, "12.50": 1250, " 7.05 ": 705, "9999999.99": 999999999} {
		if got, err := parseMoney(in); err != nil || got != cents {
			t.Errorf("parseMoney(%q) = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "+1", "1e3", "1,50", "1.234", ".5", "0x10", "12345678", "NaN", "1 000", "١"} {
		if got, err := parseMoney(in); err == nil {
			t.Errorf("parseMoney(%q) = %d, want an error", in, got)
		}
	}
}

func TestNothingIsPaidTwice(t *testing.T) {
	h := start(t, t.TempDir())
	id := issue(t, h)
	pay, claim := "/api/invoices/"+id+"/payments", "/api/invoices/"+id+"/claims"
	for _, body := range []string{`{"cents":0,"method":"cash"}`, `{"cents":-5,"method":"cash"}`, `{"cents":5,"method":"insurer"}`, `{"cents":5}`} {
		want(t, api(h, pay, body), 422, `"error"`)
	}
	want(t, api(h, pay, `{"cents":1.5,"method":"cash"}`), 400, `"error"`)
	want(t, api(h, pay, `{"cents":10001,"method":"cash"}`), 409, "Only 100.00")
	want(t, api(h, pay, `{"cents":4000,"method":"cash"}`), 201, "pay")
	want(t, api(h, claim, `{"cents":6001}`), 409, "Only 60.00")
	want(t, api(h, claim, `{"cents":5000}`), 201, "submitted")
	want(t, api(h, pay, `{"cents":1001,"method":"card"}`), 409, "Only 10.00")
	want(t, api(h, pay, `{"cents":1000,"method":"card"}`), 201, "pay")
	if v := view(t, h, id); v.Open != 5000 || v.Claimed != 5000 || v.Status != "part paid" {
		t.Errorf("view %+v", v)
	}
	want(t, api(h, "/api/invoices/none/payments", `{"cents":1,"method":"cash"}`), 404, "no such invoice")
	want(t, api(h, "/api/invoices/none/claims", `{"cents":1}`), 404, "no such invoice")
	want(t, api(h, "/api/invoices", `{"patient":"p9","text":"x","cents":1}`), 422, "no such patient")
}

func TestClaimSteps(t *testing.T) {
	h := start(t, t.TempDir())
	var c Claim
	id := issue(t, h)
	if err := json.Unmarshal(api(h, "/api/invoices/"+id+"/claims", `{"cents":10000}`).Body.Bytes(), &c); err != nil || c.Insurer == "" {
		t.Fatalf("claim %+v: %v", c, err)
	}
	path := "/claims/" + c.ID + "/status"
	step := func(status string, code int) {
		t.Helper()
		want(t, api(h, "/api"+path, `{"status":"`+status+`"}`), code, "")
	}
	step("paid", 409)
	step("submitted", 409)
	step("", 409)
	step("accepted", 200)
	step("rejected", 409)
	want(t, post(h, path, url.Values{"status": {"paid"}}), 303, "")
	step("paid", 409)
	if v := view(t, h, id); v.Open != 0 || v.Claimed != 0 || v.Status != "paid" {
		t.Errorf("after the paid claim: %+v", v)
	}
	want(t, post(h, "/claims/none/status", url.Values{"status": {"paid"}}), 404, "no such claim")

	other := issue(t, h)
	json.Unmarshal(api(h, "/api/invoices/"+other+"/claims", `{"cents":10000}`).Body.Bytes(), &c)
	path = "/claims/" + c.ID + "/status"
	step("rejected", 200)
	step("accepted", 409)
	if v := view(t, h, other); v.Open != 10000 || v.Claimed != 0 {
		t.Errorf("a rejected claim still counts: %+v", v)
	}
}

func TestIndexAndSeed(t *testing.T) {
	h := start(t, t.TempDir())
	var index synthetic.Index
	if err := json.Unmarshal(get(h, "/api/").Body.Bytes(), &index); err != nil || index.App != "fincare" {
		t.Fatalf("index %+v: %v", index, err)
	}
	for _, p := range index.Reads {
		want(t, get(h, strings.Replace(p, "{id}", "inv2001", 1)), 200, "inv20")
	}
	body, _ := json.Marshal(index.Writes[0].Example)
	want(t, api(h, index.Writes[0].Path, string(body)), 201, "inv")
	var list []View
	if err := json.Unmarshal(get(h, "/api/invoices").Body.Bytes(), &list); err != nil || len(list) != 61 {
		t.Fatalf("%d invoices: %v", len(list), err)
	}
	for _, v := range list {
		if v.Open < 0 || v.Claimed > v.Open {
			t.Errorf("%s is paid twice: %+v", v.ID, v)
		}
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fincare.json")
	if err := os.WriteFile(path, []byte(`{"format":"careconnect/1","data":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}
