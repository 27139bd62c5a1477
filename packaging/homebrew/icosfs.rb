# A Homebrew formula, for Linux. `brew install --HEAD ./packaging/homebrew/icosfs.rb`
# builds it from a checkout that ICOSFS_SOURCE names.
class Icosfs < Formula
  desc "Data of the ICOS Carbon Portal, SITES and ICOS Cities as plain files"
  license any_of: ["MIT", "Apache-2.0"]
  head "file://#{ENV.fetch("ICOSFS_SOURCE", Dir.pwd)}", using: :git, branch: "main"

  depends_on "rust" => :build
  depends_on :linux
  depends_on "libfuse"

  def install
    system "cargo", "install", "--profile", "dist", "--no-default-features",
           "--features", "dist", *std_cargo_args
    generate_completions_from_executable(bin/"icosfs", "completions")
    (buildpath/"man").mkpath
    system bin/"icosfs", "man", buildpath/"man"
    man1.install Dir["man/*.1"]
    doc.install "README.md", Dir["docs/*.md"]
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/icosfs --version") if build.stable?
    assert_match "Usage:", shell_output("#{bin}/icosfs find --help")
  end
end
