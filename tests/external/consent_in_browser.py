"""A customer's admin in a real browser: from the link over Microsoft's pages to the live page, and every way it goes wrong.

Chromium, headless, against the emulator and `tenantry serve`. Nothing here knows the site's code: it clicks what a person
would click and reads what a person would read. Each failed run must end on its page and add no tenant. Every page that is
read is measured: the contrast of each of its texts, in light and in dark; and one person has no scripts.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import playwright.sync_api
import requests

TENANTRY = os.environ["TENANTRY_BIN"]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# The least contrast of each text that is shown, by WCAG 2.2's formula, and that text.
CONTRAST = """() => {
  const channels = (color) => {
    const [r, g, b, a] = color.match(/[0-9.]+/g).map(Number);
    return { rgb: [r, g, b], alpha: a === undefined ? 1 : a };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const { rgb, alpha } = channels(getComputedStyle(one).backgroundColor);
      if (alpha === 1) return rgb;
      if (alpha > 0) throw new Error("a background that lets others through cannot be measured");
    }
    throw new Error("nothing stands behind the text");
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = { ratio: 22, text: "" };
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const { rgb, alpha } = channels(getComputedStyle(element).color);
    if (alpha !== 1) throw new Error("a text that lets others through cannot be measured");
    const lights = [luminance(rgb), luminance(behind(element))].sort((one, other) => other - one);
    const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text };
  }
  return worst;
}"""


class Site:
    """`tenantry serve` in a folder of its own, for one way of asking for consent."""

    def __init__(self, folder, about, method):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.url = "http://127.0.0.1:%d" % free_port()
        self.console = "http://127.0.0.1:%d" % free_port()
        root = "http://" + about["listen"] if not about["listen"].startswith("http") else about["listen"]
        (self.folder / "secret.txt").write_text(about["client_secret"])
        (self.folder / "tenantry.toml").write_text(
            'data_dir = "data"\n[app]\nclient_id = "%s"\npublisher_id = "%s"\n'
            '[[app.credential]]\nkind = "secret"\npath = "secret.txt"\n'
            '[cloud]\nname = "custom"\nlogin = "%s"\nactivity = "%s"\n'
            '[collect]\npoll_interval = "2s"\ncommit_interval = "500ms"\n'
            '[public]\nlisten = "%s"\nurl = "%s"\nconsent = "%s"\n[console]\nlisten = "%s"\n'
            % (about["client_id"], about["tenants"][0]["id"], root, root, self.url[7:], self.url, method, self.console[7:])
        )
        os.chmod(self.folder / "secret.txt", 0o600)
        self.serve = subprocess.Popen([TENANTRY, "--quiet", "serve"], cwd=self.folder)
        until = time.monotonic() + SECONDS
        while True:
            try:
                if requests.get(self.url + "/healthz", timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                assert self.serve.poll() is None and time.monotonic() < until, "serve does not answer"

    def run(self, *arguments):
        done = subprocess.run([TENANTRY, "--json", *arguments], cwd=self.folder, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def link(self, *arguments):
        return self.run("consent-link", *arguments)

    def tenants(self):
        return [tenant["tenant_id"] for tenant in self.run("tenant", "list")]

    def stop(self):
        self.serve.terminate()
        self.serve.wait(30)


class Person:
    """A browser profile of its own: no cookie of anybody else's."""

    def __init__(self, chromium, site, scripts=True):
        self.context = chromium.new_context(java_script_enabled=scripts)
        self.page = self.context.new_page()
        self.page.set_default_timeout(SECONDS * 1000)
        self.site = site
        self.foreign = []
        self.complaints = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("request", self.note)

    def note(self, request):
        of_ours = self.page.url.startswith(self.site.url)
        if of_ours and not request.is_navigation_request() and not request.url.startswith(self.site.url):
            self.foreign.append(request.url)

    def open(self, link):
        self.page.goto(link)

    def sign_in(self, account):
        self.page.get_by_label("Another account").fill(account)
        self.page.get_by_role("button", name="Next").click()

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def reads(self, heading):
        self.page.wait_for_url(self.site.url + "/**")
        found = self.page.get_by_role("heading", level=1).inner_text()
        assert found == heading, "%r instead of %r at %s" % (found, heading, self.page.url)
        assert self.page.locator("html").get_attribute("lang") == "en"
        assert not self.foreign, self.foreign
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            worst = self.page.evaluate(CONTRAST)
            # WCAG 2.2, 1.4.3: 4.5 for texts of any size.
            assert worst["text"] and worst["ratio"] >= 4.5, (heading, scheme, worst)
        self.page.emulate_media(color_scheme="light")
        if heading != "Your organization is connected":
            assert self.page.get_by_role("heading", level=2, name="What to do next").count() == 1

    def close(self):
        self.context.close()


def account(about, number, name="admin"):
    domain = about["tenants"][number].get("domain") or about["tenants"][number]["domains"][0]
    return "%s@%s" % (name, domain)


def go_to_the_end(person, who):
    """Accepts wherever Microsoft asks: v2 asks for the sign-in a second time."""
    person.sign_in(who)
    person.press("Accept")
    person.page.wait_for_load_state()
    if not person.page.url.startswith(person.site.url):
        person.sign_in(who)


def accepts_and_watches(chromium, site, about, number, scripts=True):
    person = Person(chromium, site, scripts)
    before = site.tenants()
    person.open(site.link("--label", "Customer %d" % number)["link"])
    go_to_the_end(person, account(about, number))
    person.reads("Your organization is connected")
    tenant = about["tenants"][number]["id"]
    assert person.page.url == site.url + "/consent/live/" + tenant, person.page.url
    # Live: the number rises while nobody touches the page; without scripts, the page loads itself again.
    records = person.page.locator("[data-count=records]")
    playwright.sync_api.expect(records).not_to_have_text("0", timeout=SECONDS * 1000)
    playwright.sync_api.expect(person.page.get_by_role("status")).to_contain_text("Audit records are arriving")
    playwright.sync_api.expect(person.page.locator("[data-count=subscriptions]")).to_have_text("5 of 5")
    assert sorted(site.tenants()) == sorted(before + [tenant])
    assert not person.complaints, person.complaints
    answer = requests.get(site.url + "/consent/live/" + tenant, timeout=10)
    assert answer.status_code == 404 and tenant not in answer.text, "another browser sees the page"
    shown = int(records.inner_text())
    person.close()
    return shown


def ends(chromium, site, heading, walk):
    before = site.tenants()
    person = Person(chromium, site)
    walk(person)
    person.reads(heading)
    assert site.tenants() == before, "%s: a tenant was added" % heading
    person.close()


def declined(site, who):
    def walk(person):
        person.open(site.link()["link"])
        person.sign_in(who)
        person.press("Cancel")
    return walk


def no_admin(site, who):
    def walk(person):
        person.open(site.link()["link"])
        person.sign_in(who)
        person.press("Return to the application without granting consent")
    return walk


def revoked(site):
    def walk(person):
        made = site.link("--uses", "1")
        site.run("consent-link", "revoke", str(made["number"]))
        person.open(made["link"])
    return walk


def expired(site):
    def walk(person):
        made = site.link("--expires", "1s")
        person.page.wait_for_timeout(1100)
        person.open(made["link"])
    return walk


def replayed(site, who):
    def walk(person):
        calls = []
        person.page.on("request", lambda request: calls.append(request.url) if "/consent/callback?" in request.url else None)
        person.open(site.link("--uses", "unlimited")["link"])
        person.sign_in(who)
        person.press("Cancel")
        person.reads("The permission was declined")
        person.page.goto(calls[0])
    return walk


def forged(site, who, change):
    """The person's own browser begins, Microsoft answers, and the answer is changed on its way."""
    def walk(person):
        asked = person.context.request.get(site.link()["link"], max_redirects=0).headers["location"]
        decided = urllib.parse.urlencode({"emulator_account": who, "emulator_decision": "accept"})
        answer = person.context.request.get(asked + "&" + decided, max_redirects=0).headers["location"]
        assert answer.startswith(site.url + "/consent/callback?"), answer
        person.page.goto(change(answer))
    return walk


def with_state(address):
    return re.sub(r"state=[^&]*", "state=" + "A" * 43, address)


def wrong_tenant(site, tenant, who):
    def walk(person):
        person.open(site.link("--tenant", tenant)["link"])
        person.sign_in(who)
        person.page.wait_for_load_state()
        for name in ("Accept",):
            if not person.page.url.startswith(site.url):
                person.press(name)
    return walk


def main():
    assert CHROMIUM, "there is no chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory() as folder, playwright.sync_api.sync_playwright() as driver:
        emulator = subprocess.Popen(
            [TENANTRY, "emulate", "--listen", "127.0.0.1:0", "--tenants", "7", "--seed", "9", "--json"],
            stdout=subprocess.PIPE, text=True,
        )
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        sites = []
        try:
            about = json.loads(emulator.stdout.readline())
            tenants = [tenant["id"] for tenant in about["tenants"]]
            admin, user = account(about, 1), account(about, 1, "user")
            for method in ("v1", "v2"):
                site = Site(pathlib.Path(folder) / method, about, method)
                sites.append(site)
                ends(chromium, site, "The permission was declined", declined(site, admin))
                ends(chromium, site, "An administrator is needed", no_admin(site, user))
                ends(chromium, site, "This link has been withdrawn", revoked(site))
                ends(chromium, site, "This link has expired", expired(site))
                ends(chromium, site, "This answer belongs to no attempt of yours", replayed(site, admin))
                ends(chromium, site, "This answer belongs to no attempt of yours", forged(site, admin, with_state))
                ends(chromium, site, "This account belongs to another organization", wrong_tenant(site, tenants[2], admin))
                if method == "v2":
                    # Every tenant here has consented before; the admin of one claims to be another.
                    other = lambda address: address.replace(tenants[1], tenants[3])
                    def claims_another(person):
                        forged(site, admin, other)(person)
                        person.sign_in(admin)
                    ends(chromium, site, "This account belongs to another organization", claims_another)
                else:
                    claim = lambda address: site.url + "/consent/callback?" + urllib.parse.urlencode({
                        "tenant": tenants[3], "admin_consent": "True",
                        "state": urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)["state"][0],
                    })
                    ends(chromium, site, "This answer cannot be read", forged(site, admin, claim))
                assert site.tenants() == []
                records = accepts_and_watches(chromium, site, about, 4)
                assert records > 0
                accepts_and_watches(chromium, site, about, 5)
                accepts_and_watches(chromium, site, about, 6, scripts=False)
                used = site.run("consent-link", "list")
                assert sum(link["uses"] for link in used) == 3, used
                log = site.run("consent-link", "log")
                assert [entry["account"] for entry in log] == [account(about, number) for number in (6, 5, 4)], log
                print("%s: link to live page with first records, with scripts and without; declined, no admin, withdrawn, "
                      "expired, replayed, forged state, forged tenant, wrong tenant: no tenant added; every page's contrast "
                      "at least 4.5 in light and dark" % method)
        finally:
            for site in sites:
                site.stop()
            chromium.close()
            emulator.terminate()
            emulator.wait(20)


main()
sys.exit(0)
