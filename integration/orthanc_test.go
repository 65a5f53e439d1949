package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// orthanc is a DICOM server as Debian packs it: an application that was never written for this.
type orthanc struct {
	addr string
	proc *process
}

func startOrthanc(t testing.TB) *orthanc {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	config, err := json.Marshal(map[string]any{"Name": "TESTPACS", "StorageDirectory": filepath.Join(dir, "db"), "IndexDirectory": filepath.Join(dir, "db"),
		"HttpPort": port, "DicomPort": freePort(t), "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "Plugins": []string{}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "orthanc.json"), string(config))
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("Orthanc")
	if err != nil {
		program = "/usr/sbin/Orthanc"
	}
	o := &orthanc{addr: "127.0.0.1:" + strconv.Itoa(port)}
	// The shim keeps it on loopback: Orthanc 1.10 has no option for that.
	o.proc = start(t, "orthanc", []string{"LD_PRELOAD=" + part(t, "bindlo.so")}, program, "--verbose", filepath.Join(dir, "orthanc.json"))
	o.proc.waitFor(t, patience, func() error {
		res, err := http.Get("http://" + o.addr + "/system")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", res.StatusCode)
		}
		return nil
	})
	assertLoopback(t, o.proc)
	return o
}

// asked are the requests in Orthanc's log.
func (o *orthanc) asked() []string {
	return regexp.MustCompile(`\(http\) [A-Z]+ /[^\s?]*`).FindAllString(o.proc.log(), -1)
}

// studies asks Orthanc itself, past the proxy.
func (o *orthanc) studies(t testing.TB) []string {
	t.Helper()
	res, err := http.Get("http://" + o.addr + "/studies")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var all []string
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// dicom makes a small image of an invented patient.
func dicom(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	pixels := make([]byte, 64*64)
	for i := range pixels {
		pixels[i] = byte(i)
	}
	if err := os.WriteFile(filepath.Join(dir, "pixels.raw"), pixels, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "image.dump"), `(0008,0016) UI =SecondaryCaptureImageStorage
(0008,0018) UI [2.25.1001]
(0008,0020) DA [20260101]
(0008,0060) CS [OT]
(0010,0010) PN [DOE^JANE]
(0010,0020) LO [p1001]
(0020,000d) UI [2.25.1002]
(0020,000e) UI [2.25.1003]
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0010) US 64
(0028,0011) US 64
(0028,0100) US 8
(0028,0101) US 8
(0028,0102) US 7
(0028,0103) US 0
(7fe0,0010) OB =pixels.raw
`)
	cmd := exec.Command("dump2dcm", "--write-xfer-little", "image.dump", "image.dcm")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dump2dcm: %v\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "image.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const orthancSite = `
orthanc.test:$PORT {
	tls $CERT $KEY
	anteroom {
		allow role doctor
	}
	reverse_proxy $ORTHANC
}
`

// TestOrthanc puts the product before a real medical application that nobody changed.
func TestOrthanc(t *testing.T) {
	o := startOrthanc(t)
	r := newRig(t, standard+orthancSite, "ORTHANC", o.addr)
	r.op.ready(t)
	const host = "orthanc.test"

	// A program without a session: 401, and Orthanc sees no request at all.
	image := dicom(t)
	before := len(o.asked())
	nobody := newBrowser(t)
	for _, req := range []*http.Request{
		call(t, "GET", r.url(host, "/studies"), ""),
		call(t, "GET", r.url(host, "/system"), ""),
		call(t, "POST", r.url(host, "/instances"), string(image), "Content-Type", "application/dicom"),
		call(t, "DELETE", r.url(host, "/studies/x"), ""),
	} {
		if p := nobody.do(t, req); p.Status != http.StatusUnauthorized || !strings.Contains(p.Body, "urn:anteroom:problem:no-session") {
			t.Errorf("%s %s without a session: %d %s", req.Method, req.URL.Path, p.Status, p.Body)
		}
	}
	o.studies(t) // past us: what it was asked for earlier stands in its log before this
	eventually(t, patience, func() error {
		if len(o.asked()) == before {
			return errText("Orthanc's log tells of no request:\n" + o.proc.tail())
		}
		return nil
	})
	if asked := o.asked()[before:]; len(asked) != 1 || asked[0] != "(http) GET /studies" {
		t.Errorf("without a session Orthanc was asked for %q", asked)
	}

	// A patient: 403, and the upload is not there.
	pat := newBrowser(t)
	if p := pat.signIn(t, r.url(host, "/app/explorer.html"), "pat", "pat-pw"); p.Status != http.StatusForbidden {
		t.Errorf("a patient opens the explorer: %d", p.Status)
	}
	if p := pat.do(t, call(t, "POST", r.url(host, "/instances"), string(image), "Content-Type", "application/dicom")); p.Status != http.StatusForbidden {
		t.Errorf("a patient uploads: %d", p.Status)
	}
	if all := o.studies(t); len(all) != 0 {
		t.Fatalf("Orthanc has %v", all)
	}

	// A doctor uploads through the proxy and finds the study in the explorer.
	doctor := newBrowser(t)
	if p := doctor.signIn(t, r.url(host, "/system"), "dana", "dana-pw"); p.Status != 200 || !strings.Contains(p.Body, "TESTPACS") {
		t.Fatalf("a doctor asks for the system: %d %s", p.Status, p.Body)
	}
	p := doctor.do(t, call(t, "POST", r.url(host, "/instances"), string(image), "Content-Type", "application/dicom"))
	var stored struct{ ID, ParentStudy, Status string }
	if err := json.Unmarshal([]byte(p.Body), &stored); err != nil || p.Status != 200 || stored.Status != "Success" {
		t.Fatalf("the upload: %d %s", p.Status, p.Body)
	}
	preview := doctor.do(t, call(t, "GET", r.url(host, "/instances/"+stored.ID+"/preview"), "", "Accept", "image/png"))
	if !bytes.HasPrefix([]byte(preview.Body), []byte("\x89PNG")) {
		t.Errorf("the preview is %d %q", preview.Status, preview.Header.Get("Content-Type"))
	}

	c := newChromium(t)
	c.navigate(t, r.url(host, "/app/explorer.html#find-patients"))
	if status := c.signIn(t, "dana", "dana-pw"); status != 200 {
		t.Fatalf("the explorer after sign-in: %d at %s", status, c.location(t))
	}
	c.waitText(t, "DOE^JANE")
	time.Sleep(time.Second) // the explorer fades its pages in
	c.screenshot(t, "1-explorer")
	c.navigate(t, r.url(host, "/app/explorer.html?study#study?uuid="+stored.ParentStudy))
	c.waitText(t, "2.25.1002") // the study's instance UID
	time.Sleep(time.Second)
	c.screenshot(t, "2-study")
}
