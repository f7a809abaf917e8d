"""What a content type is, how it is guessed, and which types a browser may show.

The tables are our own. ``mimetypes`` reads files of the system, so it answers differently on each.
"""

from __future__ import annotations

import re

UNKNOWN = "application/octet-stream"
MAX_LENGTH = 255  # characters

WORD = r"[a-z0-9!#$&^_.+-]+"  # RFC 6838, with the lower case that we normalise to
ESSENCE = re.compile(rf"{WORD}/{WORD}")
# Parameters matter: a browser's MediaRecorder declares "video/webm;codecs=vp8".
PARAMETERS = re.compile(r'( *; *[\w.+-]+=([\w.,+-]+|"[\w.+, =-]*"))*', re.ASCII)
# A browser may take these for a page, and run its scripts: "image/svg+xml", "text/xsl", "x/html".
PAGE = re.compile(r"(^|[/+.-])(html|mhtml|svg|xhtml|xml|xsl|xslt|xul)($|[+.-])")
# Their parts may be pages: Firefox shows each part of "multipart/x-mixed-replace" as what it is.
CONTAINERS = ("multipart/", "message/")
# For a browser these say nothing: it looks into the file and may find a page (MIME Sniffing, 7).
SNIFFED = ("application/unknown", "unknown/unknown")

# Each type, and the extensions of its files.
_EXTENSIONS = """
image/apng                      apng
image/avif                      avif
image/bmp                       bmp dib
image/gif                       gif
image/heic                      heic hif
image/heic-sequence             heics
image/heif                      heif
image/heif-sequence             heifs
image/jp2                       jp2 jpg2
image/jpeg                      jpg jpeg jpe jfif pjpeg pjp
image/jxl                       jxl
image/jxr                       jxr wdp hdp
image/png                       png
image/svg+xml                   svg
image/tiff                      tif tiff
image/vnd.adobe.photoshop       psd psb
image/vnd.djvu                  djvu djv
image/vnd.dwg                   dwg
image/vnd.dxf                   dxf
image/vnd.microsoft.icon        ico
image/vnd.radiance              hdr
image/webp                      webp
image/x-adobe-dng               dng
image/x-canon-cr2               cr2
image/x-canon-cr3               cr3
image/x-canon-crw               crw
image/x-exr                     exr
image/x-fuji-raf                raf
image/x-nikon-nef               nef
image/x-nikon-nrw               nrw
image/x-olympus-orf             orf
image/x-panasonic-rw2           rw2
image/x-pentax-pef              pef
image/x-samsung-srw             srw
image/x-sony-arw                arw
image/x-tga                     tga
image/x-xcf                     xcf

video/3gpp                      3gp 3gpp
video/3gpp2                     3g2 3gpp2
video/mp2t                      ts mts m2ts m2t
video/mp4                       mp4 m4v mp4v
video/mpeg                      mpg mpeg mpe m1v m2v vob
video/ogg                       ogv
video/quicktime                 mov qt
video/webm                      webm
video/x-flv                     flv
video/x-matroska                mkv
video/x-ms-asf                  asf
video/x-ms-wmv                  wmv
video/x-msvideo                 avi
application/mxf                 mxf

audio/aac                       aac
audio/ac3                       ac3
audio/aiff                      aif aiff aifc
audio/amr                       amr
audio/basic                     au snd
audio/flac                      flac
audio/midi                      mid midi kar
audio/mp4                       m4a m4b m4r
audio/mpeg                      mp3 mp2 mpga
audio/ogg                       ogg oga opus spx
audio/wav                       wav wave
audio/webm                      weba
audio/x-caf                     caf
audio/x-matroska                mka
audio/x-ms-wma                  wma
audio/x-mpegurl                 m3u
application/vnd.apple.mpegurl   m3u8

application/pdf                 pdf
application/msword              doc dot
application/vnd.openxmlformats-officedocument.wordprocessingml.document     docx
application/vnd.openxmlformats-officedocument.wordprocessingml.template     dotx
application/vnd.ms-word.document.macroenabled.12                            docm
application/vnd.ms-excel        xls xlt
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet           xlsx
application/vnd.openxmlformats-officedocument.spreadsheetml.template        xltx
application/vnd.ms-excel.sheet.macroenabled.12                              xlsm
application/vnd.ms-excel.sheet.binary.macroenabled.12                       xlsb
application/vnd.ms-powerpoint   ppt pps pot
application/vnd.openxmlformats-officedocument.presentationml.presentation   pptx
application/vnd.openxmlformats-officedocument.presentationml.slideshow      ppsx
application/vnd.openxmlformats-officedocument.presentationml.template       potx
application/vnd.ms-powerpoint.presentation.macroenabled.12                  pptm
application/vnd.ms-outlook      msg
application/vnd.ms-project      mpp
application/vnd.ms-publisher    pub
application/vnd.ms-xpsdocument  xps oxps
application/vnd.visio           vsd
application/x-msaccess          mdb accdb
application/onenote             one
application/vnd.oasis.opendocument.text             odt
application/vnd.oasis.opendocument.text-template    ott
application/vnd.oasis.opendocument.spreadsheet      ods
application/vnd.oasis.opendocument.presentation     odp
application/vnd.oasis.opendocument.graphics         odg
application/vnd.oasis.opendocument.formula          odf
application/vnd.apple.pages     pages
application/vnd.apple.numbers   numbers
application/vnd.apple.keynote   keynote
application/rtf                 rtf
application/postscript          ps eps ai
application/x-indesign          indd
application/x-tex               tex
application/x-latex             latex
text/x-bibtex                   bib
message/rfc822                  eml
application/mbox                mbox

application/epub+zip            epub
application/vnd.amazon.ebook    azw azw3
application/vnd.comicbook+zip   cbz
application/vnd.comicbook-rar   cbr
application/x-fictionbook+xml   fb2
application/x-mobipocket-ebook  mobi prc

text/plain                      txt text log ini conf cfg
text/css                        css
text/csv                        csv
text/html                       html htm
text/javascript                 js mjs cjs
text/markdown                   md markdown
text/tab-separated-values       tsv
text/vtt                        vtt
text/x-python                   py
text/x-rst                      rst
text/x-ssa                      ass ssa
text/calendar                   ics ifb
text/vcard                      vcf vcard
application/x-subrip            srt
application/x-sh                sh bash
application/xhtml+xml           xhtml xht
application/xml                 xml xsd rng
application/xslt+xml            xsl xslt
application/ttml+xml            ttml dfxp

application/json                json map
application/geo+json            geojson
application/gpx+xml             gpx
application/jsonl               jsonl
application/x-ndjson            ndjson
application/ld+json             jsonld
application/manifest+json       webmanifest
application/toml                toml
application/yaml                yaml yml
application/sql                 sql
application/vnd.sqlite3         sqlite sqlite3
application/vnd.apache.arrow.file       arrow feather
application/vnd.apache.avro             avro
application/vnd.apache.parquet          parquet
application/vnd.google-earth.kml+xml    kml
application/vnd.google-earth.kmz        kmz
application/netcdf              nc cdf
application/x-hdf5              h5 hdf5
application/x-ipynb+json        ipynb
application/dicom               dcm dicom
application/rdf+xml             rdf
application/atom+xml            atom
application/rss+xml             rss
application/wasm                wasm
application/x-pem-file          pem
application/pkcs7-signature     p7s
application/pgp-encrypted       pgp gpg
application/x-bittorrent        torrent

application/zip                 zip
application/gzip                gz tgz
application/vnd.rar             rar
application/x-7z-compressed     7z
application/x-bzip2             bz2 tbz2
application/x-tar               tar
application/x-xz                xz txz
application/zstd                zst
application/x-iso9660-image     iso
application/x-apple-diskimage   dmg
application/java-archive        jar
application/vnd.android.package-archive             apk
application/vnd.debian.binary-package               deb
application/x-rpm               rpm
application/vnd.microsoft.portable-executable       exe dll
application/x-msi               msi

font/collection                 ttc
font/otf                        otf
font/ttf                        ttf
font/woff                       woff
font/woff2                      woff2
application/vnd.ms-fontobject   eot

model/3mf                       3mf
model/gltf+json                 gltf
model/gltf-binary               glb
model/iges                      igs iges
model/mtl                       mtl
model/obj                       obj
model/step                      stp step
model/stl                       stl
model/vnd.collada+xml           dae
model/vnd.usdz+zip              usdz
model/x3d+xml                   x3d
application/x-blender           blend
"""

# Each type, and its other names: what pickers, browsers and old tables call it.
_OTHER_NAMES = """
image/bmp                       image/x-bmp image/x-ms-bmp image/x-windows-bmp
image/jpeg                      image/jpg image/pjpeg image/jfif image/x-jpeg image/x-jpg
image/png                       image/x-png
image/tiff                      image/tif image/x-tif image/x-tiff
image/vnd.adobe.photoshop       image/psd image/x-psd image/x-photoshop application/photoshop application/psd
image/vnd.adobe.photoshop       application/x-photoshop
image/vnd.djvu                  image/djvu image/x-djvu image/x.djvu
image/vnd.dwg                   image/x-dwg application/acad application/x-acad application/x-dwg
image/vnd.microsoft.icon        image/ico image/icon image/x-icon
image/webp                      image/x-webp

video/mp2t                      video/vnd.dlna.mpeg-tts
video/mp4                       video/x-m4v video/x-mp4
video/mpeg                      video/mpg video/x-mpeg video/x-mpg
video/ogg                       video/x-ogg
video/quicktime                 video/mov video/x-quicktime
video/x-flv                     video/flv
video/x-matroska                video/matroska video/mkv video/x-mkv
video/x-ms-wmv                  video/wmv
video/x-msvideo                 video/avi video/msvideo

audio/aac                       audio/aacp audio/vnd.dlna.adts audio/x-aac audio/x-hx-aac-adts
audio/aiff                      audio/x-aiff
audio/flac                      audio/x-flac
audio/midi                      audio/mid audio/x-mid audio/x-midi
audio/mp4                       audio/m4a audio/mp4a-latm audio/x-m4a audio/x-m4b audio/x-m4r audio/x-mp4
audio/mpeg                      audio/mp3 audio/mpeg3 audio/mpg audio/x-mp3 audio/x-mpeg audio/x-mpeg-3
audio/mpeg                      audio/x-mpeg3 audio/x-mpg
audio/ogg                       audio/opus audio/x-ogg audio/x-vorbis+ogg audio/x-opus+ogg
audio/wav                       audio/vnd.wave audio/wave audio/x-pn-wav audio/x-wav audio/x-wave
audio/x-caf                     audio/caf
audio/x-ms-wma                  audio/wma

application/pdf                 application/x-pdf application/acrobat text/pdf
application/msword              application/vnd.msword application/vnd.ms-word application/x-msword
application/vnd.ms-excel        application/excel application/msexcel application/x-excel application/x-msexcel
application/vnd.ms-powerpoint   application/mspowerpoint application/powerpoint application/x-mspowerpoint
application/vnd.apple.keynote   application/x-iwork-keynote-sffkey
application/vnd.apple.numbers   application/x-iwork-numbers-sffnumbers
application/vnd.apple.pages     application/x-iwork-pages-sffpages
application/rtf                 application/x-rtf text/richtext text/rtf
application/vnd.comicbook+zip   application/x-cbz
application/vnd.comicbook-rar   application/x-cbr

text/csv                        application/csv application/x-csv text/comma-separated-values text/x-csv
text/csv                        text/x-comma-separated-values
text/javascript                 application/ecmascript application/javascript application/x-javascript
text/markdown                   text/x-markdown text/x-web-markdown
text/vcard                      text/directory text/x-vcard
application/x-subrip            text/srt text/x-srt application/srt
application/xml                 text/xml
application/json                text/json application/x-json
application/sql                 text/sql text/x-sql application/x-sql
application/toml                text/toml text/x-toml
application/vnd.sqlite3         application/x-sqlite3
application/yaml                application/x-yaml text/x-yaml text/yaml

application/zip                 application/x-zip application/x-zip-compressed multipart/x-zip
application/gzip                application/x-gzip application/gzipped application/x-compressed-tar application/x-gunzip
application/vnd.rar             application/rar application/x-rar application/x-rar-compressed
application/x-7z-compressed     application/7z application/x-7zip-compressed
application/x-bzip2             application/bzip2 application/x-bzip-compressed-tar
application/x-tar               application/tar
application/zstd                application/x-zstd application/x-zstd-compressed
application/vnd.microsoft.portable-executable       application/x-dosexec application/x-msdos-program application/x-msdownload

font/otf                        application/x-font-otf application/x-font-opentype
font/ttf                        application/x-font-ttf application/x-font-truetype
font/woff                       application/font-woff application/x-font-woff
font/woff2                      application/font-woff2
model/stl                       application/sla application/vnd.ms-pki.stl application/x-navistyle model/x.stl-binary

application/octet-stream        application/binary application/download application/force-download
application/octet-stream        application/unknown application/x-download application/x-octet-stream
application/octet-stream        application/x-unknown binary/octet-stream
"""  # noqa: E501

# Types that are often declared for a file of another type: then its extension tells.
_MISTAKEN_FOR = """
application/msword              application/rtf
application/ogg                 audio/ogg video/ogg
application/vnd.ms-excel        text/csv text/tab-separated-values
application/x-compressed        application/zip application/gzip application/vnd.rar application/x-7z-compressed
application/x-linguist          video/mp2t
text/vnd.qt.linguist            video/mp2t
text/vnd.trolltech.linguist     video/mp2t
"""  # noqa: E501

# A browser may show these by their URL. The list is exact: some types of "image/*" are pages.
_INLINE = """
image/apng image/avif image/bmp image/gif image/heic image/heic-sequence image/heif
image/heif-sequence image/jpeg image/jxl image/png image/tiff image/vnd.microsoft.icon image/webp
image/x-icon
video/3gpp video/3gpp2 video/mp2t video/mp4 video/mpeg video/ogg video/quicktime video/webm
video/x-m4v video/x-matroska video/x-msvideo
audio/aac audio/aiff audio/flac audio/midi audio/mp4 audio/mpeg audio/ogg audio/wav audio/webm
audio/x-m4a audio/x-wav
application/pdf
"""


def _rows(table: str) -> list[tuple[str, list[str]]]:
    return [(row[0], row[1:]) for row in map(str.split, table.splitlines()) if row]


TYPE_OF_EXTENSION = {extension: type for type, row in _rows(_EXTENSIONS) for extension in row}
USUAL_NAME = {other: type for type, row in _rows(_OTHER_NAMES) for other in row}
MISTAKEN_FOR = dict(_rows(_MISTAKEN_FOR))
INLINE = frozenset(_INLINE.split())


def guess(filename: str) -> str:
    """The type by the filename's extension; ``UNKNOWN`` if it is not in the table. Never raises."""
    tail = re.split(r"[/\\]", filename)[-1].strip().lstrip(".")
    _, dot, extension = tail.rpartition(".")
    return TYPE_OF_EXTENSION.get(extension.lower(), UNKNOWN) if dot else UNKNOWN


def split(content_type: str) -> tuple[str, str]:
    """The type in lower case, and its parameters unchanged, beginning with their semicolon.

    Raises ValueError if this is no content type.
    """
    essence, semicolon, parameters = content_type.partition(";")
    essence, parameters = essence.strip().lower(), semicolon + parameters
    if (
        len(content_type) > MAX_LENGTH
        or not ESSENCE.fullmatch(essence)
        or not PARAMETERS.fullmatch(parameters)
    ):
        raise ValueError("Not a content type.")
    return essence, parameters


def usual_name(essence: str) -> str:
    """A type under its usual name: "image/jpeg" for "image/jpg"."""
    return USUAL_NAME.get(essence, essence)


def meaning(essence: str, filename: str) -> str:
    """The type that a browser or file picker means when it declares ``essence`` for this filename.

    The filename decides if ``UNKNOWN`` is declared, or a type that is often confused with another.
    """
    usual, guessed = usual_name(essence), guess(filename)
    if usual == UNKNOWN or guessed in MISTAKEN_FOR.get(usual, ()):
        return guessed
    return usual


def matches(essence: str, allowed: str) -> bool:
    """Whether a setting such as "image/png", "image/*" or "*/*" includes this type.

    "image/*" includes nothing that can run scripts: a setting for SVG must name it.
    """
    if allowed == "*/*" or usual_name(essence) == usual_name(allowed):
        return True
    return allowed.endswith("/*") and essence.startswith(allowed[:-1]) and not is_page(essence)


def is_page(essence: str) -> bool:
    """Whether a browser may take this type for a page and run its scripts."""
    return PAGE.search(essence) is not None or essence.startswith(CONTAINERS) or essence in SNIFFED


def is_safe_inline(content_type: str) -> bool:
    """Whether a browser shows this type without running scripts of the uploader's.

    Exact types only. Parameters do not matter, as long as they are well-formed: a browser splits
    the header at its commas, so that "image/png;x=y, text/html" would be a page.
    """
    try:
        essence, _ = split(content_type)
    except ValueError:
        return False
    return essence in INLINE
